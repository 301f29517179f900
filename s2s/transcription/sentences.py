"""Words to sentences, as segments of a transcript."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

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
    begin = position = 0
    spoken: list[Word] = []
    for i, word in enumerate(words):
        position = max(position, text.find(word.text, position)) + len(word.text)
        spoken.append(word)
        following = words[i + 1] if i + 1 < len(words) else None
        if following is None or _ends(spoken, following):
            end = len(text) if following is None else position
            yield text[begin:end].strip(), spoken
            begin, spoken = position, []


def _ends(spoken: Sequence[Word], following: Word) -> bool:
    if spoken[-1].text.rstrip(CLOSING).endswith(ENDS):
        return True
    pause = following.start - spoken[-1].end
    return pause > PAUSE or (spoken[-1].end - spoken[0].start > LONGEST and pause > 0)


def shifted(word: Word, seconds: float) -> Word:
    """The word, said so much later."""
    return replace(word, start=word.start + seconds, end=word.end + seconds)
