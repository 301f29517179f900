"""What can be wrong with an utterance, and how a list of it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from s2s.errors import UserError, nearest

Kind = Literal[
    "missing_audio",  # no such file
    "bad_audio",  # empty, truncated, unreadable, or not as long as declared
    "other_rate",  # not the sampling rate that was asked for
    "no_text",
    "too_long_text",  # more tokens than CTC can place on the encoder frames
    "too_short",
    "too_long",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Problem:
    """One fault of one utterance; `where` is the file and line that brought it in, such as `data/train/wav.scp:12`."""

    kind: Kind
    utterance: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.utterance}: {self.message} [{self.kind}]"


def counts(problems: Iterable[Problem]) -> str:
    """How many of each kind, such as `2 missing_audio, 1 no_text`."""
    counter = Counter(problem.kind for problem in problems)
    return ", ".join(f"{counter[kind]} {kind}" for kind in KINDS if counter[kind])


def describe(problems: Collection[Problem], first: int = 5) -> str:
    """The first few problems, a line each, then a count of each kind."""
    lines = [str(problem) for problem, _ in zip(problems, range(first), strict=False)]
    if len(problems) > first:
        lines.append(f"... and {len(problems) - first} more")
    return "\n".join(f"  {line}" for line in [*lines, f"in all: {counts(problems)}"])


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise UserError for a name that is no kind of problem."""
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"data.skip: '{kind}' is no kind of problem ({', '.join(KINDS)}).{nearest(kind, KINDS)}")
