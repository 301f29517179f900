"""A text as it was said, so that transcripts differ by what was heard and not by how it is written."""

from __future__ import annotations

import re
import unicodedata

UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SYMBOLS = {"#": "pound", "*": "star", "%": "percent", "&": "and", "+": "plus", "=": "equals", "×": "times", "@": "at"}


def spoken(text: str) -> str:
    """English in lower case without punctuation; numbers to 99 in words, longer ones digit by digit.

    A hyphen parts words and an apostrophe does not: "touch-tone", "dont".
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
    text = re.sub(r"['\u2018\u2019]", "", text)
    text = re.sub(r"\d+", lambda match: f" {_number(match[0])} ", text)
    text = "".join(f" {SYMBOLS[c]} " if c in SYMBOLS else c for c in text)
    return " ".join(re.findall(r"[^\W_]+", text))


def _number(digits: str) -> str:
    """ASCII digits or those of any script; "05" and "1234" digit by digit."""
    value = int(digits)
    if len(digits) > 2 or (digits[0] != str(value)[0]):
        return " ".join(UNITS[int(digit)] for digit in digits)
    if value < 20:
        return UNITS[value]
    tens, unit = TENS[value // 10 - 2], value % 10
    return f"{tens} {UNITS[unit]}" if unit else tens
