"""Decoding over processes: every utterance once, in order, whatever dies in between."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from toy_job import some_work

from s2s.cli.decode_job import from_record, to_record
from s2s.cli.jobs import Journal, check_executor, dealt, run_jobs, until_done
from s2s.decoding.alignment import Word
from s2s.errors import UserError
from s2s.training.config import load_train_config
from s2s.training.prepare import make_bundle
from s2s.transcription.transcript import Transcript


def test_transcripts_come_back_from_the_journal_as_they_were(tmp_path: Path) -> None:
    other = Transcript("b", -0.1, 1.5, {"ctc": -1 / 3})
    one = Transcript("a “ü”\n", -1 / 7, 1.5, {"att": 0.1}, [Word("a", 0.1, 0.3, 0.9)], torch.rand(2, 3), [other])
    journal = Journal(tmp_path / "journal")
    journal.write("x", to_record(one))
    found = from_record(Journal(tmp_path / "journal").read()["x"])
    assert torch.equal(found.attention, one.attention)
    assert (found.text, found.score, found.words, found.alternatives) == (one.text, one.score, one.words, [other])


def test_half_a_line_of_a_killed_process_counts_as_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("a", {"text": "1"})
    [file] = tmp_path.iterdir()
    file.write_text(file.read_text() + '{"name": "b", "te')
    other = Journal(tmp_path)
    other.write("c", {"text": "3"})
    assert journal.read() == {"a": {"text": "1"}, "c": {"text": "3"}}
    assert dealt([5, 4, 3, 2, 1], 2) == [[5, 3, 1], [4, 2]]
    assert dealt([1], 3) == [[1]]


def test_a_process_that_is_killed_costs_nothing_but_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ["a", "b", "deadly", "c", "d", "e"]
    journal = Journal(tmp_path / "journal")

    def rest() -> list[str]:
        return [name for name in names if name not in journal.read()]

    def run(left: Any) -> Any:
        shares = [(str(journal.folder), share, str(tmp_path / "died")) for share in dealt(left, 2)]
        return run_jobs(some_work, shares, "local")

    until_done(rest, run)
    lines = [line for path in journal.folder.iterdir() for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["name"] for line in lines) == sorted(names)  # each once
    assert "a process ended with signal 9; others go on" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"^wrong: cannot be decoded"):
        run(["wrong", "f"])
    with pytest.raises(UserError, match=r"nothing more gets done.*--jobs"):
        until_done(lambda: ["x"], lambda left: ["a process ended with signal 9"])


@pytest.fixture(scope="module")
def model(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows nothing: what it writes is decided by its weights all the same."""
    folder = tmp_path_factory.mktemp("model") / "bundle"
    make_bundle(load_train_config("train", tiny)).save(folder)
    return folder


@pytest.fixture(scope="module")
def expected(model: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("expected")
    subprocess.run([*command(model, digits, out)], check=True, capture_output=True)
    return (out / "text").read_text()


def command(model: Path, digits: Path, out: Path, *more: str) -> list[str]:
    data = ("--data", str(digits / "train"), "--num-workers", "0", "--out", str(out))
    return [sys.executable, "-m", "s2s.cli.main", "decode", "--model", str(model), *data, "decoding=greedy", *more]


def test_two_jobs_write_what_one_does(model: Path, digits: Path, expected: str, tmp_path: Path) -> None:
    done = subprocess.run(command(model, digits, tmp_path, "--jobs", "2"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "text").read_text() == expected
    assert json.loads((tmp_path / "decode.json").read_text())["jobs"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decode.json", "text"]


def test_a_decoding_that_is_killed_goes_on_and_decodes_each_utterance_once(
    model: Path, digits: Path, expected: str, tmp_path: Path
) -> None:
    slow = ("decoding.max_batch_seconds=1", "decoding.batch_size=1")
    process = subprocess.Popen(
        command(model, digits, tmp_path, *slow), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 100
    lines: list[str] = []
    while time.monotonic() < until and process.poll() is None and len(lines) < 5:
        lines = [line for path in tmp_path.glob(".journal-*/*.jsonl") for line in path.read_text().splitlines()]
    process.kill()
    process.wait()
    assert not (tmp_path / "text").exists()
    [folder] = tmp_path.glob(".journal-*")
    before = Journal(folder).read()
    assert 5 <= len(before) < 48
    written = {path.name: path.read_text() for path in folder.iterdir()}
    done = subprocess.run(command(model, digits, tmp_path, *slow), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"going on: {len(before)} of 48 utterances were decoded before" in done.stdout
    assert (tmp_path / "text").read_text() == expected
    assert not folder.exists()
    assert all(written.values())


def transcription(model: Path, folder: Path, out: Path, *more: str) -> list[str]:
    options = ("--model", str(model), "--decoding", "greedy", "--output-dir", str(out), "-q", *more)
    return [sys.executable, "-m", "s2s.cli.main", "transcribe", *options, str(folder)]


def test_a_transcription_that_is_killed_goes_on_and_writes_each_file_once(
    model: Path, digits: Path, tmp_path: Path
) -> None:
    talks = tmp_path / "talks"
    talks.mkdir()
    for line in (digits / "dev" / "wav.scp").read_text().splitlines():
        name, path = line.split()
        (talks / f"{name}.flac").symlink_to(path)
    (talks / "broken.flac").write_bytes(b"no sound")
    done = subprocess.run(transcription(model, talks, tmp_path / "one"), capture_output=True, text=True)
    assert done.returncode == 1
    texts = {path.name: path.read_text() for path in (tmp_path / "one").iterdir()}
    assert len(texts) == 12  # and no journal

    out = tmp_path / "two"
    process = subprocess.Popen(transcription(model, talks, out, "--jobs", "2"), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    journals: list[Path] = []
    while time.monotonic() < until and process.poll() is None and not journals:
        journals = [path for path in out.glob(".journal-*/*.jsonl") if path.read_text().count("\n")]
    process.kill()
    process.wait()
    time.sleep(1.5)  # its processes notice
    assert journals
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.txt")}
    noted = {Path(name).stem for name, record in Journal(journals[0].parent).read().items() if not record["failed"]}
    again = subprocess.run(transcription(model, talks, out, "--jobs", "2"), capture_output=True, text=True)
    assert again.returncode == 1  # of the broken one, which is tried again
    assert again.stderr.count("broken.flac") == 1
    assert {path.name: path.read_text() for path in out.iterdir()} == texts
    for path, time_written in before.items():
        assert path.stem not in noted or path.stat().st_mtime_ns == time_written


def test_an_executor_that_there_is_not_is_named(s2s_cli: Cli, model: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--executor slurm: expected one of local, ray"):
        check_executor("slurm")
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(UserError, match=r"--executor ray needs ray, not installed here; pip install 's2s\[ray\]'"):
            check_executor("ray")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (pip install 's2s[ray]')")
def test_a_ray_cluster_writes_what_one_process_does(model: Path, digits: Path, expected: str, tmp_path: Path) -> None:
    options = ("--jobs", "2", "--executor", "ray")
    done = subprocess.run(command(model, digits, tmp_path, *options), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "text").read_text() == expected
