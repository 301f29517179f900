"""What decoders, language models and n-gram models say of texts that are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.decoding.scorers import CandidateScorer
from s2s.errors import UserError
from s2s.models.language_model import teacher_forced
from s2s.models.memory import Decoder, Memory
from s2s.tokenizers.base import Tokenizer

Judge = Decoder | CandidateScorer


def label_scores(judge: Judge, memory: Memory, tokens: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities (N,U) of labels (N,U), each after the tokens (N,U) up to its place, bos first.

    A decoder reads all at once, a scorer of candidates one after the other; N is a multiple of the B of the memory.
    """
    if not isinstance(judge, CandidateScorer):
        return judge(memory, tokens).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    state = judge.start(memory, len(tokens) // len(memory.lengths))
    steps = zip(tokens.t(), labels.t(), strict=True)
    return torch.cat([judge.score_candidates(last, label.unsqueeze(1), state) for last, label in steps], dim=1)


def text_log_probs(judge: Judge, memory: Memory, target: Tensor, lengths: Tensor, bos_id: int, eos_id: int) -> Tensor:
    """log P (N,) float64 of texts (N,U) without bos and eos, lengths (N,), eos counted."""
    tokens, labels, counted = teacher_forced(target, lengths, bos_id, eos_id)
    scores = label_scores(judge, memory, tokens, labels)
    return scores.masked_fill(~counted, 0.0).double().sum(dim=1)


@dataclass(frozen=True)
class Perplexity:
    """What a language model makes of a text: natural logs, over all sentences with their ends.

    `tokens` are pieces of the tokenizer, `words` what stands between spaces; both are without ends of sentences, of
    which there are as many as `sentences`. `unknown` of the tokens are the tokenizer's unknown piece.
    """

    log_prob: float
    sentences: int
    empty: int
    tokens: int
    words: int
    unknown: int

    @property
    def per_token(self) -> float:
        """exp(-log P / n), n the tokens and the ends of sentences."""
        return _exp(-self.log_prob / (self.tokens + self.sentences))

    @property
    def per_word(self) -> float:
        """exp(-log P / n), n the words and the ends of sentences: it can be compared whatever the tokenizer."""
        return _exp(-self.log_prob / (self.words + self.sentences))


@torch.inference_mode()
def perplexity(
    judge: Judge,
    tokenizer: Tokenizer,
    lines: Iterable[str],
    device: str | torch.device = "cpu",
    batch_tokens: int = 4000,
    tell: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """That of lines, a sentence each; those that are empty are counted and left out.

    Sentences of about the same length are read at once, `batch_tokens` tokens with their padding; `tell` is told after
    each batch how many sentences it had, and how many there are in all. Raises UserError where there is no sentence.
    """
    texts: list[list[int]] = []
    empty = words = 0
    for line in lines:
        if line.strip():
            texts.append(tokenizer.encode(line))
            words += len(line.split())
        else:
            empty += 1
    if not texts:
        raise UserError("no sentences: there is nothing to measure; give text, a sentence a line")
    log_prob = 0.0
    for batch in _batches(sorted(texts, key=len), batch_tokens):
        lengths = torch.tensor([len(text) for text in batch], device=device)
        target = pad_sequence([torch.tensor(text, dtype=torch.long, device=device) for text in batch], batch_first=True)
        nothing = Memory(torch.zeros(len(batch), 0, 1, device=device), torch.zeros_like(lengths))
        found = text_log_probs(judge, nothing, target, lengths, tokenizer.bos_id, tokenizer.eos_id)
        log_prob += float(found.sum())
        if tell:
            tell(len(batch), len(texts))
    unknown = sum(text.count(tokenizer.unk_id) for text in texts)
    return Perplexity(log_prob, len(texts), empty, sum(map(len, texts)), words, unknown)


def _batches(texts: Sequence[list[int]], batch_tokens: int) -> Iterable[Sequence[list[int]]]:
    """Texts, the shortest first, as many at once as hold so many tokens with their padding."""
    start = 0
    for stop in range(1, len(texts) + 1):
        if stop == len(texts) or (stop + 1 - start) * (len(texts[stop]) + 1) > batch_tokens:
            yield texts[start:stop]
            start = stop


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
