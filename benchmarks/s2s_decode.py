"""Beam search by s2s over the memories of a work, as the scripts in peers/ do it; decoding.py calls it.

Joint CTC/attention search or attention alone, longest utterances first, with places that waiting ones take when others
are finished; and one utterance at a time. After a joint search the encoder is timed, in batches of at most 40 s with
padding, and alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from peers.work import Utterance, Work, arguments, peak_rss_mb, timed, write_answer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.decoding.beam import Beam
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch, WeightedScorers
from s2s.decoding.limits import Limits
from s2s.decoding.scorers import DecoderScorer, RowState
from s2s.models.build import build
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory

NEVER = float("-inf")
MAX_BATCH_SECONDS = 40.0  # as `s2s decode`


class ExactLengths(RowState):
    """0 for eos after an utterance's own number of tokens and for other tokens before, -inf otherwise.

    `lengths` are those of the utterances in order of arrival. A row's state is how many of its tokens are left.
    """

    max_gain = 0.0

    def __init__(self, lengths: Sequence[int], vocab_size: int, eos_id: int) -> None:
        self.waiting: Iterator[int] = iter(lengths)
        self.is_eos = torch.arange(vocab_size) == eos_id

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        lengths = list(islice(self.waiting, len(memory.lengths)))
        return torch.tensor(lengths).repeat_interleave(beam_size) + 1  # bos is counted too

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        state -= (tokens >= 0).to(state.dtype)
        return torch.where(self.is_eos == (state <= 0).unsqueeze(1), 0.0, NEVER)


def label_search(
    model: HybridModel,
    beam_size: int,
    ctc_weight: float,
    batch_size: int,
    lengths: Sequence[int] | None = None,
    num_candidates: int | None = None,
) -> LabelSearch:
    """Beam search as s2s does it; with `lengths`, each utterance, in order of arrival, has so many tokens."""
    scorers: WeightedScorers = {
        "attention": (DecoderScorer(model.decoder), 1 - ctc_weight),
        "ctc": (CTCPrefixScorer(model.ctc, model.bos_id, model.eos_id), ctc_weight),
    }
    if lengths is not None:
        scorers = {**scorers, "length": (ExactLengths(lengths, model.vocab_size, model.eos_id), 1.0)}
    return LabelSearch(
        scorers,
        Beam(beam_size),
        model.vocab_size,
        model.bos_id,
        model.eos_id,
        forbidden_ids=(model.blank_id, model.bos_id),
        limits=None if lengths is None else Limits(max_length=max(lengths)),
        num_candidates=num_candidates,
        batch_size=batch_size,
    )


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Matrices (n,D) -> (B,n of the longest,D) and the B lengths."""
    return pad_sequence(list(rows), batch_first=True), torch.tensor([len(row) for row in rows])


def encoder_batches(utterances: Sequence[Utterance], max_seconds: float) -> list[list[Utterance]]:
    """Batches of utterances, shortest first, none with more seconds than that, padding counted."""
    batches: list[list[Utterance]] = []
    for utterance in utterances:
        if not batches or utterance["seconds"] * (len(batches[-1]) + 1) > max_seconds:
            batches.append([])
        batches[-1].append(utterance)
    return batches


def load_model(work: Work) -> HybridModel:
    model = build(work.config["model"])
    assert isinstance(model, HybridModel)
    model.load_state_dict(work.weights)
    return model.eval()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--scorers", choices=("joint", "attention"), default="joint")
    parser.add_argument("--batch-size", type=int, default=16, help="utterances searched at once")
    options = parser.parse_args()
    work = Work(options)
    model = load_model(work)
    ctc_weight = work.config["ctc_weight"] if options.scorers == "joint" else 0.0
    shortest = work.utterances[:1]

    def decode(utterances: list[Utterance], batch_size: int = options.batch_size) -> list[dict[str, Any]]:
        utterances = utterances[::-1]
        lengths = [u["length"] for u in utterances] if work.config["forced_length"] else None
        beam_size, num_candidates = work.config["beam_size"], work.config["num_candidates"]
        search = label_search(model, beam_size, ctc_weight, batch_size, lengths, num_candidates)
        found = search.stream([Memory(*padded([work.memories[u["id"]] for u in utterances]))])
        return [
            {"id": utterances[number]["id"], "tokens": best.tokens, "score": best.score, "scores": best.scores}
            for number, (best, *_) in found
        ]

    def encode(utterances: list[Utterance]) -> None:
        model.encode(*padded([work.features[u["id"]] for u in utterances]))

    def seconds(name: str, run: Any, batches: list[list[Utterance]]) -> list[float]:
        return timed(f"s2s: {name}", run, batches, options.repeats, shortest)[0]

    search_seconds, [hypotheses] = timed("s2s: search", decode, [work.utterances], options.repeats, shortest)
    peak = peak_rss_mb()  # before the encoder runs
    alone = {"search_seconds": seconds("search alone", decode, work.batches(1))}
    encoder_seconds: list[float] = []
    if options.scorers == "joint":
        batches = encoder_batches(work.utterances, MAX_BATCH_SECONDS)
        encoder_seconds = seconds("encoder", encode, batches)
        alone["encoder_seconds"] = seconds("encoder alone", encode, work.batches(1))
    write_answer(
        options,
        ("s2s", "torch"),
        search_seconds=search_seconds,
        encoder_seconds=encoder_seconds,
        alone=alone,
        peak_rss_mb=peak,
        hypotheses=hypotheses,
        settings={
            "search": "LabelSearch",
            "batch_size": options.batch_size,
            "beam_size": work.config["beam_size"],
            "ctc_weight": ctc_weight,
            "max_batch_seconds": MAX_BATCH_SECONDS,
        },
        notes="the encoder is that of the work",
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
