"""Parallel text: which lines belong together, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2s.data.parallel import Direction, read_parallel
from s2s.errors import UserError

EN_DE, DE_EN, EN_FR = (Direction.of(pair) for pair in ("en-de", "de-en", "en-fr"))


def folder(path: Path, **texts: str) -> Path:
    path.mkdir()
    for language, text in texts.items():
        (path / f"text.{language}").write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lines_of_all_folders_and_directions_with_their_places(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", en="A dog.\n\nTwo cats.\n", de="Ein Hund.\nLeer.\nZwei Katzen.\n")
    b = folder(tmp_path / "b", en="No.\n", de="Nein.\n", fr="Non.\n")
    sentences, num_empty = read_parallel([a, b], [EN_DE, DE_EN, EN_FR])
    assert num_empty == 2  # the empty English line, in both directions
    assert [(str(s.direction), s.source, s.target) for s in sentences] == [
        ("en-de", "A dog.", "Ein Hund."),
        ("en-de", "Two cats.", "Zwei Katzen."),
        ("de-en", "Ein Hund.", "A dog."),
        ("de-en", "Zwei Katzen.", "Two cats."),
        ("en-de", "No.", "Nein."),
        ("de-en", "Nein.", "No."),
        ("en-fr", "No.", "Non."),
    ]
    assert sentences[1].where == f"{a}/text.de:3"


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", en="One.\nTwo.\n", de="Eins.\n")
    with pytest.raises(UserError, match=r"text\.en has 2 lines, .*text\.de has 1: line n of one must be"):
        read_parallel([a], [EN_DE])
    with pytest.raises(UserError, match=r"a: no text\.fr, which en-fr needs; there are text\.de, text\.en"):
        read_parallel([a], [EN_FR])
    with pytest.raises(UserError, match=r"b: no such folder; expected one with files such as text\.en"):
        read_parallel([tmp_path / "b"], [EN_DE])
    c = folder(tmp_path / "c", en="One.\n", de="Eins.\n")
    with pytest.raises(UserError, match=r"no folder has the text of en-fr: .*/c"):
        read_parallel([c], [EN_DE, EN_FR])
    (c / "text.de").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match=r"text\.de:1: not UTF-8"):
        read_parallel([c], [EN_DE])
    for pair in ("en", "en-", "en-de-fr", "en de"):
        with pytest.raises(UserError, match="expected two languages such as en-de"):
            Direction.of(pair)


def test_several_sources_are_read_together(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", en="A dog.\nTwo.\n", de="Ein Hund.\n\n", fr="Un chien.\nDeux.\n")
    both = Direction.of("en+de-fr")
    assert both.sources == ("en", "de")
    assert EN_DE.sources == ("en",)
    sentences, num_empty = read_parallel([a], [both])
    assert num_empty == 1
    assert [(s.source, s.others, s.target) for s in sentences] == [("A dog.", ("Ein Hund.",), "Un chien.")]
    (a / "text.de").write_text("Ein Hund.\n")
    with pytest.raises(UserError, match=r"text\.de has 1 lines, .*text\.fr has 2"):
        read_parallel([a], [both])
    with pytest.raises(UserError, match=r"no text\.cs, which en\+cs-fr needs"):
        read_parallel([a], [Direction.of("en+cs-fr")])
    for pair in ("en+-fr", "+en-fr", "en+en-fr"):
        with pytest.raises(UserError, match=r"or several sources such as en\+de-fr"):
            Direction.of(pair)
