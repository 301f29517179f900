from __future__ import annotations

import os
from pathlib import Path

import pytest

from s2s.cli.inputs import SUFFIXES, Input, collect
from s2s.errors import UserError


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `talks`, in the current folder, with recordings at three depths among other files."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.wav",
        "a.MP3",
        "notes.txt",
        "may/c.mkv",
        "may/first/d.opus",
        ".hidden.wav",
        ".git/e.wav",
        "may/._c.wav",
    ):
        (tmp_path / "talks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "talks" / name).touch()
    return Path("talks")


def names(found: list[Input]) -> list[str]:
    return [each.relative.as_posix() for each in found]


def test_a_folder_gives_its_recordings_sorted(talks: Path) -> None:
    found = collect([talks])
    assert names(found) == ["a.MP3", "b.wav", "may/c.mkv", "may/first/d.opus"]
    assert [each.path for each in found] == [talks / each.relative for each in found]


@pytest.mark.parametrize("folder", [".", "./talks/", "talks/../talks"])
def test_a_folder_is_found_however_it_is_named(talks: Path, folder: str) -> None:
    assert [each.path.resolve() for each in collect([Path(folder)]) if each.path] == [
        each.path.resolve() for each in collect([talks]) if each.path
    ]


def test_a_hidden_folder_is_searched_when_it_is_named(talks: Path) -> None:
    assert names(collect([talks / ".git"])) == ["e.wav"]


def test_a_file_that_is_named_is_taken_whatever_its_name(talks: Path) -> None:
    found = collect([talks / "notes.txt", talks / ".hidden.wav"])
    assert found == [
        Input(talks / "notes.txt", Path("notes.txt")),
        Input(talks / ".hidden.wav", Path(".hidden.wav")),
    ]


def test_the_order_is_that_of_the_arguments(talks: Path) -> None:
    assert names(collect([talks / "may", talks / "a.MP3"])) == ["c.mkv", "first/d.opus", "a.MP3"]


def test_a_file_is_taken_once_where_it_is_named_first(talks: Path) -> None:
    found = collect([talks / "b.wav", talks, talks / "may" / ".." / "b.wav", talks.resolve() / "a.MP3", talks / "may"])
    assert names(found) == ["b.wav", "a.MP3", "may/c.mkv", "may/first/d.opus"]


def test_a_missing_file_is_left_to_the_reader(talks: Path) -> None:
    found = collect([talks / "none.wav", talks / "b.wav", talks / "none.wav"])
    assert found == [Input(talks / "none.wav", Path("none.wav")), Input(talks / "b.wav", Path("b.wav"))]


def test_standard_input_is_one_of_them(talks: Path) -> None:
    found = collect([talks / "b.wav", Path("-")])
    assert found[1] == Input(None, Path("stdin"))
    assert [str(each) for each in found] == [str(talks / "b.wav"), "standard input"]


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UserError, match=r"^-: is given twice"):
        collect([Path("-"), Path("-")])


@pytest.mark.parametrize("name", ["empty", "texts"])
def test_a_folder_without_recordings_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if name == "texts":
        (folder / "a.txt").touch()
        (folder / ".a.wav").touch()
    with pytest.raises(UserError, match=rf"{name}: no audio or video file"):
        collect([folder])


def test_links_are_followed_but_not_round_in_circles(talks: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "s.flac").touch()
    (talks / "may" / "linked").symlink_to(tmp_path / "store")
    (talks / "may" / "back").symlink_to(talks.resolve())
    (talks / "z.wav").symlink_to(tmp_path / "nowhere.wav")
    assert names(collect([talks])) == [
        "a.MP3", "b.wav", "may/c.mkv", "may/first/d.opus", "may/linked/s.flac", "z.wav",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_named(talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "first":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"first: cannot be searched: Permission denied"):
        collect([talks])


def test_the_usual_kinds_are_known() -> None:
    wanted = "wav flac ogg opus oga mp3 aiff au w64 caf m4a mp4 aac webm mkv mov wma amr"
    assert {f".{kind}" for kind in wanted.split()} <= SUFFIXES
    assert not {".txt", ".srt", ".json", ".ts", ".py", ""} & SUFFIXES
