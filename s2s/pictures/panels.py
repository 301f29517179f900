"""The panels of the picture of an alignment; all but the words have an axis of time, in seconds of the recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from s2s.pictures.sight import Head, Sight
from s2s.pictures.words import SIZE, Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL, LEAST = 8.0, 5.0  # points, of a name at the least
DYNAMICS = 70.0  # decibels below the loudest that are shown
WINDOW, SHIFT = 0.025, 0.005  # seconds of a frame of the spectrogram
EDGE, STOP, SEGMENT = "0.7", "tab:red", "tab:blue"


def draw_words(axes: Axes, placed: Sequence[Place]) -> None:
    """The words, in lines of equal height, each with a line down to its time."""
    lines = 1 + max((place.line for place in placed), default=0)
    axes.set(xticks=[], yticks=[], ylim=(0, lines))
    axes.set_frame_on(False)
    for place in placed:
        middle = (place.word.start + place.word.end) / 2
        axes.plot([middle, place.middle], [0, place.line + 0.1], color=EDGE, linewidth=0.6, zorder=0)
        axes.text(
            place.middle,
            place.line + 0.5,
            place.word.text,
            fontsize=SIZE,
            ha="center",
            va="center",
            parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def draw_spectrogram(axes: Axes, sight: Sight) -> None:
    """Decibels over time and frequency; where words begin and end, heads stop, and segments end."""
    levels = spectrogram(sight.samples, sight.sampling_rate)
    extent = (sight.start, sight.start + sight.seconds, 0.0, sight.sampling_rate / 2000)
    axes.imshow(levels.numpy(), aspect="auto", origin="lower", extent=extent, cmap="magma", interpolation="nearest")
    for edge in {edge for word in sight.words for edge in (word.start, word.end)}:
        axes.axvline(edge, color="white", linewidth=0.7, linestyle=":")
    for _, end in sight.segments or []:
        axes.axvline(sight.start + end * sight.seconds_per_frame, color="cyan", linewidth=0.8)
    axes.locator_params(axis="y", nbins=4)
    axes.set_ylabel("kHz", fontsize=LABEL)
    axes.tick_params(labelbottom=False)
    stopping = [head.stops for layer in sight.heads for head in layer if head.stops is not None]
    if stopping:
        over = axes.twinx()
        for stops in stopping:
            draw_stops(over, sight, stops, color="white", linewidth=0.8, alpha=0.8)
        over.set(ylim=(len(sight.pieces), 0), yticks=[])


def draw_spikes(axes: Axes, sight: Sight) -> None:
    """How probable it is that a frame is not blank."""
    assert sight.spikes is not None
    times = sight.start + sight.seconds_per_frame * (torch.arange(len(sight.spikes)) + 0.5)
    axes.plot(times.numpy(), sight.spikes.numpy(), color="tab:green", linewidth=1.0)
    axes.fill_between(times.numpy(), sight.spikes.numpy(), color="tab:green", alpha=0.25, linewidth=0)
    draw_edges(axes, sight)
    axes.set(ylim=(0, 1.05), yticks=[0, 1])
    axes.set_ylabel("CTC", fontsize=LABEL)
    axes.tick_params(labelbottom=False)


def draw_mean(axes: Axes, sight: Sight, height: float) -> None:
    """The mean of the heads, with the names of tokens, on an axis of so many inches."""
    draw_weights(axes, sight, Head(sight.mean))
    for stops in (head.stops for layer in sight.heads for head in layer):
        if stops is not None:
            draw_stops(axes, sight, stops, color=STOP, linewidth=0.8, alpha=0.6)
    draw_segments(axes, sight)
    draw_edges(axes, sight)
    every = math.ceil(LEAST * len(sight.pieces) / (72 * height))
    named = range(0, len(sight.pieces), every)
    axes.set_yticks(
        [u + 0.5 for u in named],
        [sight.pieces[u] for u in named],
        fontsize=min(LABEL, 0.85 * 72 * height / len(named)),
        va="center_baseline",
        parse_math=False,
    )
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"mean of {sight.mean_of}", fontsize=7, pad=2, loc="left")
    axes.set_xlabel("seconds", fontsize=LABEL, labelpad=1)


def draw_head(axes: Axes, sight: Sight, head: Head, name: str, is_last: bool) -> None:
    """One head, or the mean of several; times are written below the last one of a column."""
    draw_weights(axes, sight, head)
    if head.stops is not None:
        draw_stops(axes, sight, head.stops, color=STOP, linewidth=1.0)
    axes.set_yticks([])
    axes.set_title(name, fontsize=7, pad=2, loc="left")
    axes.tick_params(labelbottom=is_last, labelsize=6)


def draw_weights(axes: Axes, sight: Sight, head: Head) -> None:
    """Weights (U,T), the darker the greater; tokens from above."""
    size, frames = head.weights.shape
    extent = (sight.start, sight.start + frames * sight.seconds_per_frame, size, 0)
    axes.imshow(head.weights.numpy(), aspect="auto", extent=extent, cmap="Greys", vmin=0.0, interpolation="nearest")


def draw_stops(axes: Axes, sight: Sight, stops: Tensor, **style: Any) -> None:
    """Frames (U,) where a head stopped, as steps."""
    times = sight.start + sight.seconds_per_frame * (stops + 0.5)
    rows = np.arange(len(stops))
    axes.plot(times.repeat_interleave(2).numpy(), np.stack((rows, rows + 1), axis=1).ravel(), **style)


def draw_segments(axes: Axes, sight: Sight) -> None:
    """Boxes around the frames of the segment of each token."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    frame = sight.seconds_per_frame
    boxes = [
        Rectangle((sight.start + start * frame, row), (end - start) * frame, 1)
        for row, (start, end) in enumerate(sight.segments or [])
    ]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=SEGMENT, linewidth=1.0))


def draw_edges(axes: Axes, sight: Sight) -> None:
    """Where words begin and end."""
    for edge in {edge for word in sight.words for edge in (word.start, word.end)}:
        axes.axvline(edge, color=EDGE, linewidth=0.7, linestyle=":")


def spectrogram(samples: Tensor, sampling_rate: int) -> Tensor:
    """Samples (n,) -> decibels (F,T) below the loudest, F frequencies from 0 to half the sampling rate."""
    size, shift = round(WINDOW * sampling_rate), round(SHIFT * sampling_rate)
    window = torch.hann_window(size)
    power = torch.stft(samples, size, shift, window=window, pad_mode="constant", return_complex=True).abs().square()
    return (10 * (power / power.max().clamp(min=1e-10)).clamp(min=1e-10).log10()).clamp(min=-DYNAMICS)
