"""The picture of an alignment: spectrogram and words, CTC spikes, and where each attention head looked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.pictures import panels, words
from s2s.pictures.sight import Head, Sight

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADS = ("all", "layers", "mean")
MOST_HEADS = 64  # that are shown one by one where nobody says
# Inches: of a second, of the time axis at the least and at the most, and around and between panels.
SECOND, NARROWEST, WIDEST = 1.6, 8.0, 20.0
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 0.9, 0.2, 0.35, 0.35, 0.15


@dataclass(frozen=True)
class Row:
    """Panels side by side, by what draws them; inches of their height and of what is between them and those above."""

    height: float
    draw: Sequence[Callable[[Axes], None]]
    gap: float = 0.1


def draw_alignment(sight: Sight, path: str | os.PathLike[str], title: str = "", heads: str | None = None) -> None:
    """Write the picture as PNG; `heads` is as in `alignment_figure`."""
    figure = alignment_figure(sight, title, heads)
    with replacing(path) as beside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # of a script that the font lacks: boxes stand for it
        figure.savefig(beside, dpi=130, format="png")


def alignment_figure(sight: Sight, title: str = "", heads: str | None = None) -> Figure:
    """The picture. Below the mean of all heads stand those of "all" heads, the means of "layers", or nothing ("mean").

    None: those of all, if there are not too many. Raises UserError for heads of a decoder that tells the mean alone.
    """
    size, width = len(sight.pieces), min(WIDEST, max(NARROWEST, SECOND * sight.seconds))
    placed = words.places(sight.words, sight.start, sight.start + sight.seconds, width)
    lines = 1 + max((place.line for place in placed), default=0)
    rows = [
        Row(words.LINE * lines, [partial(panels.draw_words, placed=placed)], gap=0.0),
        Row(1.6, [partial(panels.draw_spectrogram, sight=sight)], gap=0.0),
    ]
    if sight.spikes is not None:
        rows.append(Row(0.6, [partial(panels.draw_spikes, sight=sight)]))
    height = min(6.0, max(1.0, 0.16 * size))
    rows.append(Row(height, [partial(panels.draw_mean, sight=sight, height=height)], gap=0.22))
    shown = _shown(sight, heads)
    for number, layer in enumerate(shown, start=1):
        height = min(2.2, max(0.8, (0.1 if len(layer) == 1 else 0.06) * size))
        drawn = [
            partial(
                panels.draw_head,
                sight=sight,
                head=head,
                name=f"layer {number}" + (f", head {i}" if len(layer) > 1 else ""),
                is_last=number == len(shown),
            )
            for i, head in enumerate(layer, start=1)
        ]
        rows.append(Row(height, drawn, gap=0.55 if number == 1 else 0.22))
    return _page(rows, width, title, (sight.start, sight.start + sight.seconds))


def check_heads(heads: str | None) -> None:
    """UserError for what is no choice of heads."""
    if heads is not None and heads not in HEADS:
        raise UserError(f"heads={heads}: expected one of {', '.join(HEADS)}.{nearest(heads, HEADS)}")


def _shown(sight: Sight, heads: str | None) -> list[list[Head]]:
    """What is drawn below the mean, for each layer."""
    check_heads(heads)
    if heads in ("all", "layers") and not sight.heads:
        raise UserError(f"heads={heads}: this decoder tells the mean of its heads alone; leave it out")
    if heads is None:
        heads = "all" if sum(map(len, sight.heads)) <= MOST_HEADS else "layers"
    if heads == "layers":
        return [[Head(torch.stack([head.weights for head in layer]).mean(dim=0))] for layer in sight.heads]
    return sight.heads if heads == "all" else []


def _page(rows: Sequence[Row], width: float, title: str, time: tuple[float, float]) -> Figure:
    """Rows one below the other, each `width` inches long, of panels that all show the same time."""
    from matplotlib.figure import Figure

    full, height = LEFT + width + RIGHT, TOP + sum(row.gap + row.height for row in rows) + BOTTOM
    figure = Figure(figsize=(full, height))
    figure.text(LEFT / full, 1 - 0.1 / height, title, fontsize=9, va="top", parse_math=False)
    top = height - TOP
    for row in rows:
        top -= row.gap + row.height
        each = (width + BETWEEN) / len(row.draw)
        for i, draw in enumerate(row.draw):
            place = ((LEFT + i * each) / full, top / height, (each - BETWEEN) / full, row.height / height)
            axes = figure.add_axes(place)
            axes.tick_params(labelsize=7)
            draw(axes)
            axes.set_xlim(time)
    return figure
