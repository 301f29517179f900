from __future__ import annotations

import pytest

from s2s.data.problems import Problem, check_kinds, counts, describe
from s2s.errors import UserError

PROBLEMS = [Problem("no_text", f"u{i}", f"text:{i}", "no words") for i in range(7)] + [
    Problem("missing_audio", "v", "wav.scp:3", "no audio file v.wav")
]


def test_counts_name_each_kind_once() -> None:
    assert counts(PROBLEMS) == "1 missing_audio, 7 no_text"


def test_a_description_names_the_first_few_and_counts_all() -> None:
    lines = describe(PROBLEMS, first=2).splitlines()
    assert [line.strip() for line in lines] == [
        "text:0: u0: no words [no_text]",
        "text:1: u1: no words [no_text]",
        "... and 6 more",
        "in all: 1 missing_audio, 7 no_text",
    ]


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'no_txt' is no kind of problem.*Did you mean 'no_text'"):
        check_kinds(["bad_audio", "no_txt"])
