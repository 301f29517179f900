"""What joint search by s2s costs, and why: against beam, batch, length and vocabulary, and part by part.

The model is that of decoding.py, with random weights; medians of repeats, in seconds. Writes a record and a plot.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from s2s_decode import label_search, padded
from torch import Tensor
from work import (
    TOKENS_PER_SECOND,
    add_model_options,
    model_config,
    provenance,
    random_model,
    speech_features,
    write_record,
)

from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.ctc import CTC
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory

HERE = Path(__file__).parent
NEVER = float("-inf")
MATRIX_PRODUCTS = (  # names of operators, without "aten::"
    "addmm",
    "mm",
    "bmm",
    "baddbmm",
    "linear",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_attention_math",
    "scaled_dot_product_attention",
)
AXES = {
    "beam_size": "beam",
    "batch_size": "utterances at once",
    "seconds": "length of an utterance, s",
    "vocab_size": "vocabulary",
}


@dataclass(frozen=True)
class Point:
    """What is searched: so many utterances of so many seconds at once, with TOKENS_PER_SECOND tokens."""

    batch_size: int
    seconds: float
    beam_size: int
    vocab_size: int


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)  # --beam-size and --vocab-size are of the point that the axes go through
    parser.add_argument("--batch-size", type=int, default=8, help="utterances searched at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an utterance")
    parser.add_argument("--beam-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 10, 16, 32])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--lengths", type=float, nargs="+", default=[2.0, 5.0, 10.0, 20.0], help="in seconds")
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[100, 500, 2000, 8000, 32000])
    parser.add_argument("--stream", type=int, default=32, help="utterances that come and go")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "decoding_costs.json")
    parser.add_argument("--plot", type=Path, default=HERE.parent / "docs" / "decoding_costs.png")
    return parser.parse_args()


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


class Costs:
    """Models and speech made once, and points measured once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.models: dict[int, HybridModel] = {}
        self.memories: dict[tuple[int, float], Memory] = {}
        self.encoders: dict[tuple[int, float], float] = {}
        self.points: dict[Point, dict[str, float]] = {}

    def model(self, vocab_size: int) -> HybridModel:
        if vocab_size not in self.models:
            features = speech_features(self.options.data_root, [20.0])
            self.models[vocab_size] = random_model(model_config(self.options, vocab_size), features)
        return self.models[vocab_size]

    def memory(self, batch_size: int, seconds: float) -> Memory:
        """Of a batch of speech, made by the encoder, whose time is taken."""
        key = batch_size, seconds
        if key not in self.memories:
            model = self.model(self.options.vocab_size)
            batch = padded(speech_features(self.options.data_root, [seconds] * batch_size))
            self.memories[key] = model.encode(*batch)
            self.encoders[key] = median_seconds(lambda: model.encode(*batch), self.options.repeats)
        return self.memories[key]

    def encoder_seconds(self, batch_size: int, seconds: float) -> float:
        """Of the whole batch."""
        self.memory(batch_size, seconds)
        return self.encoders[batch_size, seconds]

    def search(self, point: Point) -> Callable[[], Any]:
        """A joint search that may be run again and again."""
        model, memory = self.model(point.vocab_size), self.memory(point.batch_size, point.seconds)
        lengths = [max(1, round(TOKENS_PER_SECOND * point.seconds))] * point.batch_size
        return lambda: label_search(model, point.beam_size, self.options.ctc_weight, point.batch_size, lengths)(memory)

    def measure(self, point: Point) -> dict[str, float]:
        """Seconds per utterance."""
        if point not in self.points:
            found = {
                "search_seconds": median_seconds(self.search(point), self.options.repeats) / point.batch_size,
                "encoder_seconds": self.encoder_seconds(point.batch_size, point.seconds) / point.batch_size,
            }
            self.points[point] = found
            print(f"{point}: {found}", file=sys.stderr)
        return self.points[point]


def along_axes(costs: Costs, base: Point) -> dict[str, list[dict[str, float]]]:
    options = costs.options
    values = {
        "beam_size": options.beam_sizes,
        "batch_size": options.batch_sizes,
        "seconds": options.lengths,
        "vocab_size": options.vocab_sizes,
    }
    return {
        axis: [{axis: value, **costs.measure(replace(base, **{axis: value}))} for value in values[axis]]
        for axis in AXES
    }


def ctc_alone(costs: Costs, base: Point) -> dict[str, float]:
    """CTC prefix beam search without scorers against the encoder, seconds of the whole batch."""
    model = costs.model(base.vocab_size)
    memory = costs.memory(base.batch_size, base.seconds)
    search = CTCPrefixBeamSearch(model.ctc, model.bos_id, model.eos_id, base.beam_size)
    search_seconds = median_seconds(lambda: search(memory), costs.options.repeats)
    encoder_seconds = costs.encoder_seconds(base.batch_size, base.seconds)
    return {
        "search_seconds": search_seconds,
        "encoder_seconds": encoder_seconds,
        "search_over_encoder": search_seconds / encoder_seconds,
    }


class FrameLoop:
    """CTC prefix scores of candidates as they are usually computed: frame by frame (Watanabe et al. 2017, algorithm 2).

    For the T frames of N prefixes of one length; `chosen` makes the prefixes longer by one of their candidates.
    """

    def __init__(self, log_probs: Tensor, blank_id: int) -> None:
        self.log_probs, self.blank_id = log_probs, blank_id  # (N,T,V)
        self.blank = log_probs[..., blank_id].t()  # (T,N)
        self.last = torch.full((len(log_probs),), -1)
        self.label_ends = torch.full_like(self.blank, NEVER)  # (T,N)
        self.blank_ends = self.blank.cumsum(dim=0)
        self.prefix_scores = self.blank.new_zeros(len(log_probs))

    def score(self, candidates: Tensor) -> Tensor:
        """candidates (N,C) -> (N,C)"""
        num_frames = len(self.blank)
        emission = self.log_probs.gather(2, candidates.unsqueeze(1).expand(-1, num_frames, -1)).transpose(0, 1)
        both_ends = torch.logaddexp(self.label_ends, self.blank_ends).unsqueeze(-1)  # (T,N,1)
        repeats = candidates == self.last.unsqueeze(1)
        ready = torch.where(repeats, self.blank_ends.unsqueeze(-1), both_ends)  # (T,N,C)
        label = torch.full_like(emission[0], NEVER)
        blank, total = label, label
        labels, blanks = [], []
        for t in range(num_frames):
            if t:
                before = ready[t - 1]
            else:
                before = torch.where(self.last < 0, 0.0, NEVER).unsqueeze(1).expand_as(label)
            total = torch.logaddexp(total, before + emission[t])
            label, blank = (
                torch.logaddexp(label, before) + emission[t],
                torch.logaddexp(blank, label) + self.blank[t].unsqueeze(1),
            )
            labels.append(label)
            blanks.append(blank)
        self.candidates, self.totals = candidates, total
        self.ends = torch.stack(labels), torch.stack(blanks)  # (T,N,C)
        return total - self.prefix_scores.unsqueeze(1)

    def choose(self, columns: Tensor) -> None:
        """columns (N,): which candidate each prefix goes on with."""
        rows = torch.arange(len(columns))
        self.label_ends, self.blank_ends = (ends[:, rows, columns] for ends in self.ends)
        self.last, self.prefix_scores = self.candidates[rows, columns], self.totals[rows, columns]


def closed_form_against_loop(vocab_size: int, steps: int) -> list[dict[str, float]]:
    """Seconds to score 15 candidates of every prefix and go on with one of them, median of steps."""
    found = []
    for size, beam_size, num_frames in ((1, 10, 50), (1, 10, 250), (8, 10, 250)):
        torch.manual_seed(0)
        num_rows, num_candidates = size * beam_size, min(15, vocab_size - 4)
        ctc = CTC(vocab_size, vocab_size)
        ctc.out = torch.nn.Identity()
        memory = Memory(2 * torch.randn(size, num_frames, vocab_size), torch.full((size,), num_frames))
        scorer = CTCPrefixScorer(ctc, bos_id=2, eos_id=3)
        state = scorer.start(memory, beam_size)
        loop = FrameLoop(ctc(memory).repeat_interleave(beam_size, dim=0), blank_id=0)
        parents = torch.arange(num_rows)
        tokens = torch.full((num_rows,), 2)
        times: dict[str, list[float]] = {"closed_form": [], "frame_loop": []}
        for _ in range(steps + 1):  # the first is a warm-up
            candidates = torch.rand(num_rows, vocab_size - 4).topk(num_candidates).indices + 4
            columns = torch.randint(num_candidates, (num_rows,))
            started = time.perf_counter()
            ours = scorer.score_candidates(tokens, candidates, state)
            state = scorer.select(state, parents)
            middle = time.perf_counter()
            theirs = loop.score(candidates)
            loop.choose(columns)
            times["closed_form"].append(middle - started)
            times["frame_loop"].append(time.perf_counter() - middle)
            if not torch.allclose(ours.float(), theirs, atol=1e-2):
                raise AssertionError(f"scores differ by {float((ours - theirs).abs().max())}")
            tokens = candidates.gather(1, columns.unsqueeze(1)).squeeze(1)
        medians = {name: statistics.median(values[1:]) for name, values in times.items()}
        found.append(
            {
                "rows": num_rows,
                "frames": num_frames,
                "candidates": num_candidates,
                "closed_form_seconds": medians["closed_form"],
                "frame_loop_seconds": medians["frame_loop"],
                "frame_loop_over_closed_form": medians["frame_loop"] / medians["closed_form"],
            }
        )
    return found


def leaving_and_joining(costs: Costs, base: Point) -> dict[str, float]:
    """A stream of utterances of 2 to 1/5 times the base's length, 3 to 9 tokens a second, batch_size at once.

    Refilled: waiting ones take the places of finished ones; else the next batch_size start when all are finished.
    """
    options = costs.options
    torch.manual_seed(0)
    spread = torch.linspace(2 * base.seconds, base.seconds / 5, options.stream)
    rates = TOKENS_PER_SECOND * (0.5 + torch.rand(options.stream))
    lengths = (spread * rates).long().clamp(min=1).tolist()
    model = costs.model(base.vocab_size)
    features = speech_features(options.data_root, spread.tolist())
    states = [model.encode(matrix[None], torch.tensor([len(matrix)])).states[0] for matrix in features]
    memory = Memory(*padded(states))

    def search(start: int, stop: int) -> None:
        found = label_search(model, base.beam_size, options.ctc_weight, base.batch_size, lengths[start:stop])
        list(found.stream([memory.rows(start, stop)]))

    def one_batch_after_another() -> None:
        for start in range(0, options.stream, base.batch_size):
            search(start, start + base.batch_size)

    refilled = median_seconds(lambda: search(0, options.stream), options.repeats)
    batches = median_seconds(one_batch_after_another, options.repeats)
    return {
        "utterances": options.stream,
        "batch_size": base.batch_size,
        "refilled_seconds": refilled,
        "batches_seconds": batches,
        "batches_over_refilled": batches / refilled,
    }


def profile(costs: Costs, base: Point) -> dict[str, Any]:
    """Where the time of a joint search goes, by operator."""
    run = costs.search(base)
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        run()
    own = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    calls = {event.key: event.count for event in recorded.key_averages()}
    total = sum(own.values())
    products = sum(own.get(f"aten::{name}", 0.0) for name in MATRIX_PRODUCTS)
    dearest = sorted(own, key=lambda name: -own[name])[:10]
    return {
        "seconds": total / 1e6,
        "matrix_products": products / total,
        "dearest": {name: {"share": own[name] / total, "calls": calls[name]} for name in dearest},
    }


def plot(axes: dict[str, list[dict[str, float]]], base: Point, path: Path) -> None:
    """A panel for each axis: seconds per utterance of search and encoder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 7), sharey=True, layout="constrained")
    for panel, (axis, points) in zip(panels.flat, axes.items(), strict=True):
        values = [point[axis] for point in points]
        panel.plot(values, [point["search_seconds"] for point in points], "o-", label="joint search")
        panel.plot(values, [point["encoder_seconds"] for point in points], "s--", label="encoder")
        panel.axvline(getattr(base, axis), color="0.7", linewidth=3, alpha=0.5, zorder=0)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel(AXES[axis])
        panel.grid(alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("seconds per utterance")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0, 0].legend()
    figure.suptitle(
        f"Around beam {base.beam_size}, {base.batch_size} utterances of {base.seconds:g} s at once, "
        f"vocabulary {base.vocab_size} (grey lines)",
        fontsize=10,
    )
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    base = Point(options.batch_size, options.seconds, options.beam_size, options.vocab_size)
    costs = Costs(options)
    costs.search(replace(base, batch_size=1, seconds=min(options.lengths)))()  # warm-up
    record = {
        "base": asdict(base),
        "ctc_prefix_beam": ctc_alone(costs, base),
        "ctc_prefix_scores": closed_form_against_loop(base.vocab_size, 5 * options.repeats),
        "leaving_and_joining": leaving_and_joining(costs, base),
        "profile": profile(costs, base),
        "seconds_per_utterance": along_axes(costs, base),
        "repeats": options.repeats,
        "versions": {"torch": torch.__version__},
        **provenance(options.threads),
    }
    write_record(record, options.out)
    plot(record["seconds_per_utterance"], base, options.plot)
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        with torch.inference_mode():
            main()
    except UserError as error:
        sys.exit(f"error: {error}")
