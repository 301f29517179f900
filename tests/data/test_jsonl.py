from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from lhotse import CutSet

from s2s.data.cuts import origin, text
from s2s.data.jsonl import read_cuts, write_cuts
from s2s.data.kaldi import read_kaldi
from s2s.errors import UserError


@pytest.fixture
def records(kaldi: Path, tmp_path: Path) -> list[dict]:
    """The digits as Lhotse itself writes them, a dictionary each."""
    read_kaldi(kaldi)[0].to_file(tmp_path / "lhotse.jsonl")
    return [json.loads(line) for line in (tmp_path / "lhotse.jsonl").read_text().splitlines()]


def written(path: Path, records: list) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_what_is_written_reads_back_the_same_with_its_lines(kaldi: Path, tmp_path: Path, name: str) -> None:
    cuts, _ = read_kaldi(kaldi)
    write_cuts(cuts, path := tmp_path / name)
    again, problems = read_cuts(path)
    assert problems == []
    assert [origin(cut) for cut in again] == [f"{path}:{i + 1}" for i in range(len(cuts))]
    for cut, other in zip(cuts, again, strict=True):
        cut.custom = other.custom = None
        assert cut == other


def test_lhotse_reads_what_is_written(kaldi: Path, tmp_path: Path) -> None:
    cuts, _ = read_kaldi(kaldi)
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    assert [cut.id for cut in CutSet.from_file(tmp_path / "cuts.jsonl.gz")] == [cut.id for cut in cuts]


def test_cuts_with_faulty_audio_are_left_out_and_named(records: list[dict], tmp_path: Path) -> None:
    records[1]["recording"]["sources"][0]["source"] = "/none.flac"
    records[2]["recording"]["sampling_rate"] = 16000
    records[3]["recording"]["duration"] += 1
    records[4]["duration"] += 1
    del records[5]["supervisions"][0]["text"]
    cuts, problems = read_cuts(path := written(tmp_path / "cuts.jsonl", records))
    assert [(p.kind, p.utterance, p.where) for p in problems] == [
        (kind, records[i]["id"], f"{path}:{i + 1}")
        for i, kind in [(1, "missing_audio"), (2, "bad_audio"), (3, "bad_audio"), (4, "bad_audio"), (5, "no_text")]
    ]
    assert [cut.id for cut in cuts] == [records[i]["id"] for i in range(len(records)) if i not in (1, 2, 3, 4)]


def test_no_text_in_any_cut_is_no_problem(records: list[dict], tmp_path: Path) -> None:
    for record in records:
        record["supervisions"] = []
    cuts, problems = read_cuts(written(tmp_path / "cuts.jsonl", records))
    assert problems == []
    assert {text(cut) for cut in cuts} == {None}


def test_what_is_no_cut_is_refused_by_line(records: list[dict], tmp_path: Path) -> None:
    for wrong, message in [
        (records[1]["recording"], "a Recording; expected a MonoCut"),
        (records[1]["supervisions"][0], "a SupervisionSegment"),
        ({key: value for key, value in records[1].items() if key != "recording"}, "has no recording"),
        ({"type": "MonoCut", "id": "x"}, "not a Lhotse cut"),
        (records[0], "stands already in"),
        ([1], "not a Lhotse cut"),
    ]:
        path = written(tmp_path / "cuts.jsonl", [records[0], wrong])
        with pytest.raises(UserError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(message)):
            read_cuts(path)


def test_a_command_is_not_run(records: list[dict], tmp_path: Path) -> None:
    records[0]["recording"]["sources"][0] |= {"type": "command", "source": f"touch {tmp_path}/ran"}
    with pytest.raises(UserError, match=":1: the audio is the command"):
        read_cuts(written(tmp_path / "cuts.jsonl", records))
    assert not (tmp_path / "ran").exists()


def test_broken_files_are_refused(records: list[dict], tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    whole = gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode())
    for content, message in [
        (whole[: len(whole) // 2], "cannot be read after line"),
        (b"plain text", "cannot be read after line 0"),
        (gzip.compress(b'{"id": \n'), ":1: not a line of JSON"),
        (gzip.compress(b"\xff\n"), ":1: not a line of JSON"),
        (gzip.compress(b"\n"), "no cuts"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=re.escape(message)):
            read_cuts(path)
