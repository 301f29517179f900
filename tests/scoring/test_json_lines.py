from __future__ import annotations

from pathlib import Path

import pytest

from s2s.errors import UserError
from s2s.scoring.json_lines import JsonLine, read_json_lines


def test_objects_are_read_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('\ufeff{"a": 1}\r\n\n{"a": "é", "b": null}', encoding="utf-8")
    first, second = read_json_lines(tmp_path / "log")
    assert (first.where, first.content, first.number("a")) == (f"{tmp_path}/log:1", {"a": 1}, 1.0)
    assert (second.where, second.text("a")) == (f"{tmp_path}/log:3", "é")
    assert ["a" in second, "b" in second, "c" in second] == [True, False, False]
    assert second.get("b") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"log: no lines in it"),
        ("\n \n", r"log: no lines in it"),
        ('{"a": 1}\n{"a": \n', r"log:2: not JSON"),
        ("[1]\n", r"log:1: expected a JSON object"),
        ('{"a": 1}\nnull\n', r"log:2: expected a JSON object"),
    ],
)
def test_what_is_no_object_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(content)
    with pytest.raises(UserError, match=message):
        read_json_lines(tmp_path / "log")
    with pytest.raises(UserError, match=r"none: cannot read it"):
        read_json_lines(tmp_path / "none")


@pytest.mark.parametrize("value", ["true", '"1"', "NaN", "Infinity", "null", "[1]", "1" + "0" * 400])
def test_what_is_no_number_is_named(value: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f'{{"a": {value}, "b": [0, {value}]}}')
    (line,) = read_json_lines(tmp_path / "log")
    with pytest.raises(UserError, match=r"log:1: 'a' is .*; expected a finite number"):
        line.number("a")
    with pytest.raises(UserError, match=r"log:1: 'b' is .*; expected a list of finite numbers"):
        line.times("b")


def test_times_never_fall() -> None:
    assert JsonLine("f:1", {"a": [0, 0.5, 0.5, 3]}).times("a") == (0, 0.5, 0.5, 3)
    with pytest.raises(UserError, match=r"f:1: 'a' falls from 2 to 1\.5 at its item 3"):
        JsonLine("f:1", {"a": [1, 2, 1.5]}).times("a")
    with pytest.raises(UserError, match=r"f:1: 'a' falls from 0 to -1 at its item 1"):
        JsonLine("f:1", {"a": [-1]}).times("a")


def test_a_missing_key_is_named() -> None:
    line = JsonLine("f:7", {"a": 1})
    for read in (line.get, line.text, line.number, line.times):
        with pytest.raises(UserError, match=r"f:7: no 'b'"):
            read("b")
    with pytest.raises(UserError, match=r"f:7: 'a' is 1; expected a string"):
        line.text("a")
