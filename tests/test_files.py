from __future__ import annotations

from pathlib import Path

import pytest

from s2s.files import replacing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with replacing(tmp_path / "out") as beside:
        beside.write_text("new")
        assert (tmp_path / "out").read_text() == "old"
    assert (tmp_path / "out").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with replacing(tmp_path / "out") as beside:
        beside.mkdir()
        (beside / "new").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException], folder: bool) -> None:
    (tmp_path / "out").write_text("old")

    def write_half() -> None:
        with replacing(tmp_path / "out") as beside:
            if folder:
                beside.mkdir()
            else:
                beside.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (tmp_path / "out").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "out") as beside:
        beside.write_text("new")
    assert (tmp_path / "a" / "b" / "out").read_text() == "new"
