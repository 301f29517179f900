"""What a corpus holds, in numbers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lhotse.cut import Cut
from rich.console import Group, RenderableType
from rich.table import Table

from s2s.data.cuts import speaker, text
from s2s.tokenizers.base import Tokenizer

BARS = 10


@dataclass(frozen=True)
class Spread:
    """Smallest, median, mean and largest of some values; all zero for none."""

    min: float = 0.0
    median: float = 0.0
    mean: float = 0.0
    max: float = 0.0

    @staticmethod
    def of(values: list[float]) -> Spread:
        if not values:
            return Spread()
        return Spread(min(values), statistics.median(values), statistics.fmean(values), max(values))


@dataclass(frozen=True)
class CorpusStatistics:
    """Counts and lengths of a corpus.

    Attributes:
        utterances: how many.
        with_text: how many have words.
        hours: of audio.
        speakers: how many differ; utterances without one are not counted.
        duration: seconds of an utterance.
        words: of an utterance with text, parted by white space.
        tokens: of an utterance with text; None without a tokenizer.
        characters: of an utterance with text.
        alphabet: how many characters differ.
        text_lengths: (from, to, how many utterances) by number of tokens, or of characters without a tokenizer.
        sampling_rates: utterances by hertz.
    """

    utterances: int
    with_text: int
    hours: float
    speakers: int
    duration: Spread
    words: Spread
    tokens: Spread | None
    characters: Spread
    alphabet: int
    text_lengths: list[tuple[int, int, int]]
    sampling_rates: dict[int, int]


def corpus_statistics(cuts: Iterable[Cut], tokenizer: Tokenizer | None = None) -> CorpusStatistics:
    """Statistics in one pass over the cuts; no audio is read."""
    durations: list[float] = []
    words: list[float] = []
    tokens: list[float] = []
    characters: list[float] = []
    alphabet: set[str] = set()
    speakers: set[str] = set()
    rates: Counter[int] = Counter()
    for cut in cuts:
        durations.append(cut.duration)
        rates[cut.sampling_rate] += 1
        who, said = speaker(cut), text(cut)
        if who is not None:
            speakers.add(who)
        if said is not None:
            words.append(len(said.split()))
            characters.append(len(said))
            alphabet.update(said)
            if tokenizer is not None:
                tokens.append(len(tokenizer.encode(said)))
    return CorpusStatistics(
        utterances=len(durations),
        with_text=len(words),
        hours=sum(durations) / 3600,
        speakers=len(speakers),
        duration=Spread.of(durations),
        words=Spread.of(words),
        tokens=Spread.of(tokens) if tokenizer is not None else None,
        characters=Spread.of(characters),
        alphabet=len(alphabet),
        text_lengths=histogram([int(n) for n in (characters if tokenizer is None else tokens)]),
        sampling_rates=dict(sorted(rates.items())),
    )


def histogram(lengths: list[int], bars: int = BARS) -> list[tuple[int, int, int]]:
    """Whole numbers counted in at most `bars` ranges of equal width: (from, to, how many), both ends included."""
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // bars)
    counter = Counter((length - low) // width for length in lengths)
    return [(low + i * width, low + (i + 1) * width - 1, counter[i]) for i in range((high - low) // width + 1)]


def tables(statistics: CorpusStatistics) -> RenderableType:
    """The statistics as rich tables and a bar histogram."""
    totals = Table(show_header=False, box=None)
    rates = ", ".join(f"{rate} Hz ({count})" for rate, count in statistics.sampling_rates.items())
    for name, value in {
        "utterances": f"{statistics.utterances}",
        "with text": f"{statistics.with_text}",
        "hours": f"{statistics.hours:.2f}",
        "speakers": f"{statistics.speakers}",
        "characters that differ": f"{statistics.alphabet}",
        "sampling rates": rates,
    }.items():
        totals.add_row(name, value)
    spreads = Table("per utterance", "min", "median", "mean", "max", box=None)
    spreads.add_row("seconds", *_cells(statistics.duration, ".2f"))
    if statistics.with_text:
        if statistics.tokens is not None:
            spreads.add_row("tokens", *_cells(statistics.tokens, ".1f"))
        spreads.add_row("words", *_cells(statistics.words, ".1f"))
        spreads.add_row("characters", *_cells(statistics.characters, ".1f"))
    unit = "characters" if statistics.tokens is None else "tokens"
    bars = Table(unit, "utterances", "", box=None)
    highest = max((count for _, _, count in statistics.text_lengths), default=1)
    for first, last, count in statistics.text_lengths:
        bars.add_row(f"{first}-{last}" if first < last else f"{first}", f"{count}", "█" * round(40 * count / highest))
    parts: list[RenderableType] = [totals, "", spreads]
    return Group(*parts, "", bars) if statistics.text_lengths else Group(*parts)


def _cells(spread: Spread, format_spec: str) -> list[str]:
    return [format(value, format_spec) for value in (spread.min, spread.median, spread.mean, spread.max)]
