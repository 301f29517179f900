from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.cli.inputs import Input, collect
from s2s.cli.outputs import Output, output_paths, write
from s2s.errors import UserError
from s2s.transcription.formats import FORMATS
from s2s.transcription.transcript import Segment, Transcript

TALK = Transcript("Grüße!", -1.0, 2.0, segments=[Segment(0.0, 2.0, "Grüße!")])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with recordings of equal names in two folders and beside each other."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.wav", "b/x.wav", "b/x.mp3", "b/y.wav", "b/deep/x.wav", "top.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(*paths: str, output_dir: Path | None = Path("out")) -> dict[str, str]:
    """The srt of each input."""
    found = output_paths(collect([Path(path) for path in paths]), output_dir, ["srt"])
    return {str(each.path or "-"): output.paths["srt"].as_posix() for each, output in found.items()}


def test_the_format_takes_the_place_of_the_suffix(here: Path) -> None:
    assert names("a/x.wav", "b/y.wav") == {"a/x.wav": "out/x.srt", "b/y.wav": "out/y.srt"}


def test_a_folder_keeps_its_structure(here: Path) -> None:
    (here / "b" / "x.mp3").unlink()
    assert names("b") == {"b/x.wav": "out/x.srt", "b/y.wav": "out/y.srt", "b/deep/x.wav": "out/deep/x.srt"}


def test_equal_names_beside_each_other_keep_their_suffixes(here: Path) -> None:
    assert names("b/x.wav", "b/x.mp3", "b/y.wav") == {
        "b/x.wav": "out/x.wav.srt",
        "b/x.mp3": "out/x.mp3.srt",
        "b/y.wav": "out/y.srt",
    }


def test_equal_names_from_two_folders_go_to_two_folders(here: Path) -> None:
    expected = {"a/x.wav": "out/a/x.srt", "b/x.wav": "out/b/x.srt"}
    assert names("a/x.wav", "b/x.wav") == expected
    (here / "b" / "x.mp3").unlink()
    assert names("a", "b") == expected | {"b/y.wav": "out/y.srt", "b/deep/x.wav": "out/deep/x.srt"}


def test_equal_names_in_equal_folders_go_further_up(here: Path) -> None:
    for folder in ("p/s", "q/s"):
        (here / folder).mkdir(parents=True)
        (here / folder / "x.wav").touch()
    assert names("p/s/x.wav", "q/s") == {"p/s/x.wav": "out/p/s/x.srt", "q/s/x.wav": "out/q/s/x.srt"}


def test_the_current_folder_and_the_one_above_have_names_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "a")
    (here / "x.wav").touch()
    assert names("x.wav", "../x.wav") == {"x.wav": "out/a/x.srt", "../x.wav": f"out/{here.name}/x.srt"}


def test_a_name_that_collides_after_keeping_its_suffix_is_made_distinct(here: Path) -> None:
    (here / "b" / "x.wav.flac").touch()
    found = names("b/x.wav", "b/x.mp3", "b/x.wav.flac")
    assert len(set(found.values())) == 3
    assert found["b/x.wav.flac"] == "out/x.wav.flac.srt"


def test_names_that_differ_in_case_alone_are_made_distinct(here: Path) -> None:
    (here / "b" / "X.wav").touch()
    found = names("a/x.wav", "b/X.wav")
    assert found == {"a/x.wav": "out/a/x.srt", "b/X.wav": "out/b/X.srt"}


def test_a_file_named_like_standard_input_gives_way(here: Path) -> None:
    (here / "stdin.wav").touch()
    assert names("-", "stdin.wav") == {"-": "out/stdin.srt", "stdin.wav": "out/stdin.wav.srt"}


def test_a_missing_file_has_its_output_so_no_name_depends_on_failures(here: Path) -> None:
    before = names("a/x.wav", "b/x.wav", "c/x.wav")
    assert before["c/x.wav"] == "out/c/x.srt"
    (here / "b" / "x.wav").unlink()
    assert names("a/x.wav", "b/x.wav", "c/x.wav") == before


files = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "p/", "q/", "p/q/", "q/p/", "p/x.wav/"]),
        st.sampled_from(["x", "X", "x.wav", "y", "stdin", ".x", "x.y"]),
        st.sampled_from(["", ".wav", ".mp3", ".flac"]),
    ),
    unique=True,
    max_size=12,
)


@given(files, st.booleans())
def test_no_two_inputs_share_an_output_and_their_order_does_not_matter(paths: list[str], stdin: bool) -> None:
    inputs = [Input(Path("/r", path), Path(Path(path).name)) for path in paths] + [Input(None, Path("stdin"))] * stdin
    found = output_paths(inputs, Path("out"), ["srt", "json"])
    written = [path for output in found.values() for path in output.paths.values()]
    assert len(written) == len(set(written)) == 2 * len(inputs)
    assert all(".." not in path.parts and path.parts[0] == "out" for path in written)
    assert len({output.name for output in found.values()}) == len(inputs)
    assert output_paths(inputs[::-1], Path("out"), ["srt", "json"]) == found


def test_text_alone_is_printed(here: Path) -> None:
    inputs = collect([Path("a/x.wav"), Path("b/x.wav")])
    assert output_paths(inputs, None, ["txt"]) == {inputs[0]: Output("a/x", {}), inputs[1]: Output("b/x", {})}
    assert output_paths(inputs[:1], Path("out"), ["txt"])[inputs[0]].paths == {"txt": Path("out/x.txt")}


def test_other_formats_go_to_the_current_folder(here: Path) -> None:
    assert names("a/x.wav", output_dir=None) == {"a/x.wav": "x.srt"}


def test_all_formats_have_a_file_each(here: Path) -> None:
    inputs = collect([Path("a/x.wav")])
    found = output_paths(inputs, None, list(FORMATS))[inputs[0]].paths
    assert sorted(map(str, found.values())) == sorted(f"x.{kind}" for kind in FORMATS)


@pytest.mark.parametrize("link", [False, True])
def test_a_recording_is_not_overwritten(here: Path, link: bool) -> None:
    (here / "top.srt").touch()
    if link:
        (here / "a" / "top.srt").symlink_to(here / "top.srt")
    inputs = collect([Path("top.srt")])
    with pytest.raises(UserError, match=r"top\.srt: is to be read and would be overwritten"):
        output_paths(inputs, Path("a") if link else None, ["srt"])
    assert output_paths(inputs, Path("b"), ["srt"])[inputs[0]].paths == {"srt": Path("b/top.srt")}


def test_a_file_is_no_output_folder(here: Path) -> None:
    with pytest.raises(UserError, match=r"^--output-dir top\.wav: is a file"):
        output_paths(collect([Path("a")]), Path("top.wav"), ["srt"])


def test_a_transcript_is_written_in_each_format(here: Path) -> None:
    write(TALK, Output("may/x", {kind: Path(f"out/may/x.{kind}") for kind in ("txt", "stm", "json")}))
    assert sorted(path.name for path in (here / "out" / "may").iterdir()) == ["x.json", "x.stm", "x.txt"]
    assert (here / "out/may/x.txt").read_bytes() == "Grüße!\n".encode()
    assert (here / "out/may/x.stm").read_text(encoding="utf-8") == "may_x 1 may_x 0.000 2.000 <O> Grüße!\n"
    assert json.loads((here / "out/may/x.json").read_text(encoding="utf-8"))["text"] == "Grüße!"


def test_a_transcript_that_lacks_words_writes_no_file_at_all(here: Path) -> None:
    with pytest.raises(UserError, match=r"--word-timestamps"):
        write(TALK, Output("x", {kind: Path(f"out/x.{kind}") for kind in ("txt", "ctm")}))
    assert not (here / "out").exists()


def test_ctrl_c_leaves_what_is_finished_and_no_half_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "out").mkdir()
    (here / "out" / "x.srt").write_text("old")
    write_bytes = Path.write_bytes

    def interrupted(path: Path, content: bytes) -> int:
        if ".srt" in path.name:
            write_bytes(path, content[:3])
            raise KeyboardInterrupt
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(TALK, Output("x", {kind: Path(f"out/x.{kind}") for kind in ("txt", "srt", "vtt")}))
    assert {path.name: path.read_text(encoding="utf-8") for path in (here / "out").iterdir()} == {
        "x.txt": "Grüße!\n",
        "x.srt": "old",
    }


def test_a_file_that_cannot_be_written_is_named(here: Path) -> None:
    (here / "out" / "x.txt").mkdir(parents=True)
    with pytest.raises(UserError, match=r"out/x\.txt: cannot write it: .*irectory"):
        write(TALK, Output("x", {"txt": Path("out/x.txt")}))
    assert [path.name for path in (here / "out").iterdir()] == ["x.txt"]
