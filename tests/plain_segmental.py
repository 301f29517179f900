"""The segmental decoder written out one frame at a time, and all segmentations of utterances short enough."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from toy import BLANK, BOS, EOS

from s2s.models.memory import Memory
from s2s.models.segmental import SegmentalModel
from s2s.models.segmental_decoder import SegmentalDecoder
from s2s.nn.segments import Segments

Labels = tuple[int, ...]
Ends = tuple[int, ...]
LABELS = (4, 5)  # of a vocabulary of 6, the first 4 of which are blank, unknown, bos and eos
SEGMENTS = [
    Segments(),
    Segments(max_frames=2),
    Segments(max_frames=2, left=1, right=1),
    Segments("window", left=1, right=2),
    Segments("global"),
]


def toy_decoder(
    segments: Segments | None = None, seed: int = 0, vocab_size: int = 6, **options: Any
) -> SegmentalDecoder:
    """A decoder of width 8 in float64, whose outputs differ clearly."""
    torch.manual_seed(seed)
    given = {"label_layers": 2, "segments": segments, "dropout": 0.0, **options}
    decoder = SegmentalDecoder(vocab_size, 6, 8, 2, 2, 12, **given)
    with torch.no_grad():
        decoder.out.weight *= 4
        decoder.length.out.weight *= 6
        decoder.length.out.bias += 1.5
    return decoder.double().eval()


def toy_frames(lengths: list[int], seed: int = 0) -> Memory:
    """States (B,T,6) float64; past each end there is a large number."""
    states = torch.full((len(lengths), max(lengths), 6), 1e3, dtype=torch.float64)
    for b, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + b)
        states[b, :length] = 2 * torch.randn(length, 6, generator=generator, dtype=torch.float64)
    return Memory(states, torch.tensor(lengths))


def seen(segments: Segments, start: int, end: int, num_frames: int) -> list[int]:
    """The frames that the label of a segment sees."""
    if segments.kind == "global":
        return list(range(num_frames))
    frames = list(range(start, end))[-segments.max_frames :] if segments.kind == "segment" else [end - 1]
    first, last = frames[0] - segments.left, frames[-1] + segments.right
    return [t for t in range(first, last + 1) if 0 <= t < num_frames]


class PlainDecoder:
    """The probabilities of one utterance, with states (T,6)."""

    def __init__(self, decoder: SegmentalDecoder, states: torch.Tensor) -> None:
        self.decoder, self.states = decoder, decoder.memory_projection(states).detach()
        self.known: dict[Any, Any] = {}

    def label_state(self, labels: Labels) -> torch.Tensor:
        """g (8,) after bos and the labels, by the equations of an LSTM."""
        network, size = self.decoder.label_network, self.decoder.model_dim
        hidden = [torch.zeros(size).double() for _ in range(network.num_layers)]
        cells = [torch.zeros(size).double() for _ in range(network.num_layers)]
        for label in (BOS, *labels):
            x = self.decoder.embedding.weight[label]
            for i in range(network.num_layers):
                weights = [
                    getattr(network, f"{name}_l{i}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                ]
                gates = weights[0] @ x + weights[2] + weights[1] @ hidden[i] + weights[3]
                enter, forget, new, out = gates.split(size)
                cells[i] = forget.sigmoid() * cells[i] + enter.sigmoid() * new.tanh()
                x = hidden[i] = out.sigmoid() * cells[i].tanh()
        return x

    def label(self, labels: Labels, frames: list[int]) -> torch.Tensor:
        """Log-probabilities (V,) of the next label, which sees these frames."""
        x, memory = self.once(self.label_state, labels), self.states[frames]
        for layer in self.decoder.layers:
            heads = layer.memory_attention.heads
            query, keys, values = heads.query(layer.norm_memory(x)), heads.key(memory), heads.value(memory)
            found = []
            for h in range(heads.num_heads):
                own = slice(h * heads.head_dim, (h + 1) * heads.head_dim)
                weights = (keys[:, own] @ query[own] / math.sqrt(heads.head_dim)).softmax(dim=0)
                found.append(weights @ values[:, own])
            x = x + heads.out(torch.cat(found))
            x = x + layer.feed_forward(layer.norm_feed_forward(x))
        return self.decoder.out(self.decoder.norm(x)).log_softmax(dim=0)

    def log_ends(self, labels: Labels, t: int) -> tuple[float, float]:
        """log e and log (1 - e): a segment ends with frame t, or not."""
        length = self.decoder.length
        inner = (
            length.frame.weight @ self.states[t] + length.frame.bias + length.labels.weight @ self.label_state(labels)
        )
        odds = (length.out.weight @ inner.relu() + length.out.bias).item()
        return -math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))

    def once(self, method: Any, *given: Any) -> Any:
        key = (method.__name__, *(tuple(each) if isinstance(each, list) else each for each in given))
        if key not in self.known:
            self.known[key] = method(*given)
        return self.known[key]

    @torch.no_grad()
    def log_prob(self, labels: Labels, ends: Ends) -> float:
        """log P(labels, segments that end before these frames)."""
        total, s = 0.0, 0
        for t in range(len(self.states)):
            log_end, log_go = self.once(self.log_ends, labels[:s], t)
            if s < len(ends) and ends[s] == t + 1:
                start = ends[s - 1] if s else 0
                frames = seen(self.decoder.segments, start, ends[s], len(self.states))
                total += log_end + self.once(self.label, labels[:s], frames)[labels[s]].item()
                s += 1
            else:
                total += log_go
        return total

    def segmentations(self, labels: Labels) -> dict[Ends, float]:
        """Each way to cut the utterance, and log P(labels, segments)."""
        frames = range(1, len(self.states) + 1)
        return {ends: self.log_prob(labels, ends) for ends in itertools.combinations(frames, len(labels))}

    def everything(self, allowed: tuple[int, ...] = LABELS) -> dict[Labels, dict[Ends, float]]:
        """All that may be said in the utterance, and all segmentations of each."""
        return {labels: self.segmentations(labels) for labels in all_labels(len(self.states), allowed)}


def all_labels(num_frames: int, allowed: tuple[int, ...] = LABELS) -> Iterator[Labels]:
    """All sequences of at most so many labels."""
    for count in range(num_frames + 1):
        yield from itertools.product(allowed, repeat=count)


def plain_utterance(decoder: SegmentalDecoder, memory: Memory, b: int) -> PlainDecoder:
    return PlainDecoder(decoder, memory.states[b, : int(memory.lengths[b])])


def log_sum(values: Any) -> float:
    return torch.tensor(list(values), dtype=torch.float64).logsumexp(dim=0).item()


class DecoderOnly(SegmentalModel):
    """A segmental model of nothing but its decoder, for searches over memories."""

    def __init__(self, decoder: SegmentalDecoder) -> None:
        torch.nn.Module.__init__(self)
        self.decoder, self.vocab_size = decoder, decoder.vocab_size
        self.blank_id, self.bos_id, self.eos_id = BLANK, BOS, EOS
