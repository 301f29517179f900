"""Words to sentences, as segments of a transcript."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from s2s.decoding.alignment import Word

ENDS = tuple(".?!…。？！।؟")
CLOSING = "\"'”’»)]}」』"
PAUSE = 1.5  # seconds of silence that end a segment too
LONGEST = 15.0  # seconds after which the next pause between words does


def sentences(text: str, words: Sequence[Word]) -> Iterator[tuple[str, list[Word]]]:
    """The sentences of a text and their words, those that `text` consists of, in order.

    A sentence ends with its punctuation, before a pause, or where it has become too long. A number or an abbreviation
    with a point inside is one word and ends none.
    """
    begin = 0
    spoken: list[Word] = []
    for i, (word, position) in enumerate(zip(words, ends(text, words), strict=True)):
        spoken.append(word)
        following = words[i + 1] if i + 1 < len(words) else None
        if following is None or _ends(spoken, following):
            end = len(text) if following is None else position
            yield text[begin:end].strip(), spoken
            begin, spoken = position, []


def shared_out(texts: Sequence[str], words: Sequence[Word]) -> list[list[Word]]:
    """The words of each of several texts, which have them all one after another."""
    shares: list[list[Word]] = [[] for _ in texts]
    bounds = list(accumulate(map(len, texts)))
    for word, position in zip(words, ends("".join(texts), words), strict=True):
        shares[min(bisect_left(bounds, position), len(texts) - 1)].append(word)
    return shares


def ends(text: str, words: Sequence[Word]) -> Iterator[int]:
    """Where in the text each of its words ends."""
    position = 0
    for word in words:
        position = max(position, text.find(word.text, position)) + len(word.text)
        yield position


def _ends(spoken: Sequence[Word], following: Word) -> bool:
    if spoken[-1].text.rstrip(CLOSING).endswith(ENDS):
        return True
    pause = following.start - spoken[-1].end
    return pause > PAUSE or (spoken[-1].end - spoken[0].start > LONGEST and pause > 0)


def shifted(word: Word, seconds: float) -> Word:
    """The word, said so much later; to a tenth of a microsecond, so that times that are one stay one."""
    return replace(word, start=round(word.start + seconds, 7), end=round(word.end + seconds, 7))
