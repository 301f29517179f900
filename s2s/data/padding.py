"""How much of the batches is padding, told and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from s2s.data.buckets import BatchSize, Lengths, at_random, bucketed
from s2s.files import replacing

SAMPLERS = ("random", "one-dimensional", "two-dimensional")


@dataclass(frozen=True)
class Padding:
    """Shares of what is computed that are padding.

    Attributes:
        source: of the sources.
        target: of the targets.
        both: of the two together, each side counted by the mean length of what it holds.
        batches: how many there are.
    """

    source: float
    target: float
    both: float
    batches: int


def padding(batches: Sequence[Sequence[str]], lengths: Mapping[str, Lengths]) -> Padding:
    """The padding of batches of ids."""
    ratios = []
    for side in (0, 1):
        filled = sum(lengths[key][side] for batch in batches for key in batch)
        computed = sum(len(batch) * max(lengths[key][side] for key in batch) for batch in batches)
        ratios.append(computed / filled if filled else 1.0)
    source, target = (1 - 1 / ratio for ratio in ratios)
    return Padding(source, target, 1 - 2 / sum(ratios), len(batches))


def sampled_batches(
    lengths: Mapping[str, Lengths], size: BatchSize, num_buckets: int, num_target_buckets: int, seed: int = 1
) -> dict[str, list[list[str]]]:
    """An epoch of batches under one budget, by kind of sampler; the one-dimensional has as many buckets in all."""
    made = (
        at_random(lengths, size, seed),
        bucketed(lengths, size, num_buckets * num_target_buckets, 1, seed),
        bucketed(lengths, size, num_buckets, num_target_buckets, seed),
    )
    return dict(zip(SAMPLERS, made, strict=True))


def padding_table(batches: Mapping[str, Sequence[Sequence[str]]], lengths: Mapping[str, Lengths]) -> Table:
    """The padding of each sampler, a row each, in per cent."""
    table = Table("sampler", "batches", "padding of sources", "of targets", "of both", box=None)
    for name, made in batches.items():
        found = padding(made, lengths)
        shares = (f"{100 * share:.1f} %" for share in (found.source, found.target, found.both))
        table.add_row(name, f"{found.batches}", *shares)
    return table


def draw_padding(
    path: Path, batches: Mapping[str, Sequence[Sequence[str]]], lengths: Mapping[str, Lengths], unit: str
) -> None:
    """Write a PNG: of each sampler the batches, side by side, each as wide as it is large, as high as its longest
    source, what is padded above what is not; below the same of targets. `unit` is that of sources."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(batches), 6), layout="constrained")
    axes = figure.subplots(2, len(batches), sharex=True, sharey="row", squeeze=False)
    for column, (name, made) in enumerate(batches.items()):
        found = padding(made, lengths)
        ordered = sorted(made, key=lambda batch: max(lengths[key] for key in batch))
        for side, (axis, share) in enumerate(zip(axes[:, column], (found.source, found.target), strict=True)):
            longest = [max(lengths[key][side] for key in batch) for batch in ordered for _ in batch]
            own = [length for batch in ordered for length in sorted(lengths[key][side] for key in batch)]
            steps = range(len(own))
            axis.fill_between(steps, longest, step="mid", color="tab:red", linewidth=0, label="padding")
            axis.fill_between(steps, own, step="mid", color="tab:blue", linewidth=0, label="data")
            axis.set_title(f"{name}: {100 * share:.1f} %")
    axes[0][0].set_ylabel(f"source, {unit}")
    axes[1][0].set_ylabel("target, tokens")
    axes[0][0].legend(loc="upper left")
    for axis in axes[1]:
        axis.set_xlabel("utterances, batch by batch")
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=110)
