"""When each word was said, by Whisper: its decoder's attention, dynamic time warping, and what silence asks for.

A word begins with the first of its tokens that is said and ends with the last: punctuation is part of its text, not of
its time. The warping leaves no frame out, so that it stretches the words around a pause, and some far into it. But in a
pause attention is weak: the frames of a token are taken from its greatest weight outwards, as far as a fifth of that
comes again within 0.2 s. Attention leaves a word before its sound ends: its end is 0.2 s later, or where the next word
starts. So words never go back, overlap or leave the audio; those that the warping gives no frame have no length.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from s2s.decoding.alignment import Word
from s2s.decoding.time_warping import median_filter, warp
from s2s.models.memory import Memory
from s2s.models.whisper import Whisper
from s2s.nn.lengths import valid_mask
from s2s.tokenizers.whisper import SPACELESS, WhisperTokenizer

FRAMES_PER_SECOND = 50
_LEAST = 0.2  # of a token's greatest weight: less is no attention to sound
_GAP = _HOLD = 10  # frames: attention may lack that long within a token; how long a word goes on after it
_TINY = torch.finfo(torch.float32).tiny
_TOKENS_AT_ONCE = 512  # positions of all windows together: bounded memory, 100 MB for their probabilities
_AMBIGUOUS, _OPENING, _SAID = frozenset("\"'-–—"), frozenset("¿¡"), frozenset("%‰&@#*/\\§")  # of punctuation
_EVERY_TOKEN = "ja"  # a language in which the tokenizer takes every token for a word
_FIRST_SPACELESS = "\u0e00"  # Thai; the scripts that come before it in Unicode have spaces


@torch.no_grad()
def word_times(
    model: Whisper,
    tokenizer: WhisperTokenizer,
    memory: Memory,
    tokens: Sequence[Sequence[int]],
    languages: Sequence[str | None],
    task: str = "transcribe",
    seconds: Sequence[float] | None = None,
    confidence: bool = True,
) -> list[list[Word]]:
    """The words of the text of each of B windows, times in seconds from the start of the window: memory of B windows.

    Special tokens and timestamps among the `tokens` are passed over. `languages` are codes, None for a model of English
    alone. Joined by spaces, where the language has them, the words are the text. `seconds` is how much audio each
    window has, where the memory also holds silence that was added to it. The `confidence`, where it is wanted, is the
    mean probability of the tokens that are said, each after the text before it.

    The method is openai/whisper's as far as the warping, see `token_times`, and then that of this module. Raises
    UserError for a language or task that the model does not have, and a text that is longer than its decoder takes.
    """
    windows = [
        _units(tokenizer, ids, None if task == "translate" else language)  # a translation is in English
        for ids, language in zip(tokens, languages, strict=True)
    ]
    texts = [[i for unit in units for i in unit.ids] for units in windows]
    prompts = [tokenizer.prompt(language, task, timestamps=False) for language in languages]
    lengths = memory.lengths.tolist()
    if seconds is None:
        seconds = [length / FRAMES_PER_SECOND for length in lengths]
    heard = [math.ceil(FRAMES_PER_SECOND * duration - 1e-6) for duration in seconds]
    frames = [max(1, min(pair)) for pair in zip(lengths, heard, strict=True)]
    words: list[list[Word]] = []
    for rows in _blocks([len(prompt) + len(text) for prompt, text in zip(prompts, texts, strict=True)]):
        part = memory.rows(rows.start, rows.stop)
        found = token_times(model, part, prompts[rows], texts[rows], frames[rows], confidence)
        probabilities = [None] * len(part.lengths) if found.probabilities is None else found.probabilities.tolist()
        words += [
            list(_words(*of_window))
            for of_window in zip(
                windows[rows], found.starts.tolist(), found.weights, probabilities, seconds[rows], strict=True
            )
        ]
    return words


class TokenTimes(NamedTuple):
    """Where B texts of up to U tokens are in T frames."""

    starts: Tensor  # (B,U+1) first frame of each token, and of the end of the text
    weights: Tensor  # (B,U,T) attention when each is predicted, the mean of the heads
    probabilities: Tensor | None  # (B,U)


@torch.no_grad()
def token_times(
    model: Whisper,
    memory: Memory,
    prompts: Sequence[list[int]],
    texts: Sequence[list[int]],
    frames: Sequence[int],
    confidence: bool = True,
) -> TokenTimes:
    """The frames of the tokens of texts, each after a prompt, all of equal length; `frames` are those of real audio.

    Probabilities take longer than all else, and come where `confidence` is wanted.

    The weights of the alignment heads are standardised over the tokens and filtered by a running median over 7 frames;
    the path through their mean is that of the greatest sum. As in openai/whisper's `timing.py`.
    """
    device, start = memory.states.device, len(prompts[0])
    sequences = [[*prompt, *text, model.eos_id] for prompt, text in zip(prompts, texts, strict=True)]
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    num_frames = torch.tensor(frames, device=device)
    size = int(lengths.max())
    tokens = torch.tensor([[*sequence, *[model.eos_id] * (size - len(sequence))] for sequence in sequences])
    tokens = tokens.to(device)
    if size - 1 == model.decoder.max_positions:
        tokens = tokens[:, :-1]  # the longest text has no room for its end

    states, weights = model.decoder.read(memory, tokens, model.alignment_heads)
    probabilities = None
    if confidence:
        logits = model.decoder.logits(states[:, start - 1 : size - 2]).float()
        said = logits.gather(2, tokens[:, start : size - 1].unsqueeze(2)).squeeze(2)
        probabilities = (said - logits.logsumexp(dim=-1)).exp()

    # Each token is predicted by the one before it, the end by the last.
    rows = slice(start - 1, size - 1)
    weights = over_frames(weights.float(), num_frames)
    filtered = median_filter(standardised(weights, lengths)[:, :, rows], num_frames)
    starts = warp(-filtered.mean(dim=1), lengths - start, num_frames)
    return TokenTimes(starts, weights[:, :, rows][:, :, :-1].mean(dim=1), probabilities)


def over_frames(weights: Tensor, num_frames: Tensor) -> Tensor:
    """Weights (B,...,T) of the first frames (B,) of each utterance alone, so that these sum to 1."""
    heard = valid_mask(num_frames, weights.size(-1)).view(len(weights), *[1] * (weights.dim() - 2), -1)
    weights = weights.masked_fill(~heard, 0.0)
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=_TINY)


def standardised(weights: Tensor, lengths: Tensor) -> Tensor:
    """Weights (B,A,L,T) of L tokens, lengths (B,): at each frame less their mean, and over their deviation."""
    real = valid_mask(lengths, weights.size(2))[:, None, :, None]
    count = real.sum(dim=2, keepdim=True)
    centred = (weights - (weights * real).sum(dim=2, keepdim=True) / count) * real
    deviation = (centred.square().sum(dim=2, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=_TINY)


@dataclass
class _Unit:
    """A word as it is written, its tokens, and which of them are said."""

    text: str
    ids: list[int]
    said: list[bool]

    def extend(self, other: _Unit) -> None:
        self.text, self.ids, self.said = self.text + other.text, self.ids + other.ids, self.said + other.said


def _units(tokenizer: WhisperTokenizer, ids: Sequence[int], language: str | None) -> list[_Unit]:
    """The words of a text: what is between white space, in the languages without such every token.

    Punctuation between words goes with the one before it, or with the one after it if it opens something.
    """
    written: list[_Unit] = []
    for text, own in tokenizer.split_words(ids, _EVERY_TOKEN):
        unit = _Unit(text, own, [_is_said(text)] * len(own))
        before = written[-1].text if written else ""
        is_new = text[0].isspace() or (language in SPACELESS and not _is_within(before[-1:], text[0]))
        if not written or (is_new and before.strip()):
            written.append(unit)
        else:
            written[-1].extend(unit)
    units: list[_Unit] = []
    for unit in written:
        if units and (not any(units[-1].said) or not (any(unit.said) or _opens(unit.text))):
            units[-1].extend(unit)
        else:
            units.append(unit)
    if len(units) > 1 and not any(units[-1].said):
        last = units.pop()
        units[-1].extend(last)
    if units and not any(units[-1].said):  # it is the only one
        units[-1].said = [True] * len(units[-1].ids)
    return units if any(unit.text.strip() for unit in units) else []


def _is_said(text: str) -> bool:
    """Whether there is more than punctuation and white space in it."""
    return any(unicodedata.category(char)[0] in "LMNS" or char in _SAID for char in text)


def _is_within(left: str, right: str) -> bool:
    """Whether two characters are of one word in a language without spaces: marks, and letters of other languages."""
    if unicodedata.category(right).startswith("M"):
        return True
    return all(char.isalnum() and char < _FIRST_SPACELESS for char in (left, right))


def _opens(punctuation: str) -> bool:
    """Whether it goes with what follows it."""
    last = punctuation.strip()[-1:]
    if last in _AMBIGUOUS:
        return punctuation[0].isspace()
    return last in _OPENING or (last != "" and unicodedata.category(last) in ("Ps", "Pi"))


def _words(
    units: Sequence[_Unit], bounds: list[int], weights: Tensor, probabilities: list[float] | None, seconds: float
) -> Iterator[Word]:
    """The words of a window: bounds (U+1), weights (U,T), probabilities (U) of its U tokens."""

    def heard(token: int) -> tuple[int, int]:
        start, end = _heard(weights[token, bounds[token] : bounds[token + 1]].tolist())
        return bounds[token] + start, bounds[token] + end

    spans, confidences, first = [], [], 0
    for unit in units:
        said = [first + i for i, is_said in enumerate(unit.said) if is_said]
        spans.append((heard(said[0])[0], heard(said[-1])[1] + _HOLD))
        confidences.append(None if probabilities is None else fmean(probabilities[i] for i in said))
        first += len(unit.ids)
    for i, (unit, (start, end)) in enumerate(zip(units, spans, strict=True)):
        if i + 1 < len(units):
            end = min(end, spans[i + 1][0])
        start_time, end_time = (min(seconds, frame / FRAMES_PER_SECOND) for frame in (start, end))
        yield Word(unit.text.strip(), start_time, end_time, confidences[i])


def _heard(weights: list[float]) -> tuple[int, int]:
    """The frames (first, one past the last) around the greatest weight that have no gap of little attention."""
    if not weights:
        return 0, 0
    greatest = max(weights)
    first = last = weights.index(greatest)
    for frame in reversed(range(first)):
        if weights[frame] >= _LEAST * greatest and first - frame <= _GAP:
            first = frame
    for frame in range(last + 1, len(weights)):
        if weights[frame] >= _LEAST * greatest and frame - last <= _GAP:
            last = frame
    return first, last + 1


def _blocks(sizes: Sequence[int]) -> Iterator[slice]:
    """Cut windows of so many tokens where `_TOKENS_AT_ONCE` would not do for them, all as long as the longest."""
    start = longest = 0
    for i, size in enumerate(sizes):
        longest = max(longest, size)
        if i > start and longest * (i + 1 - start) > _TOKENS_AT_ONCE:
            yield slice(start, i)
            start, longest = i, size
    if start < len(sizes):
        yield slice(start, len(sizes))
