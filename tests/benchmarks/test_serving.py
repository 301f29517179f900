"""The benchmark and the soak of a server run, on a model of random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from toy_stream import RATE, sound, streaming_bundle

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUERY = ("--query", "decoding=ctc_greedy", "chunk=0.16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bundle/ and audio/ with two recordings."""
    folder = tmp_path_factory.mktemp("serving")
    streaming_bundle().save(folder / "bundle")
    (folder / "audio").mkdir()
    for seed in range(2):
        soundfile.write(folder / "audio" / f"{seed}.wav", sound(1.5, seed).numpy(), RATE)
    return folder


def run(script: str, folder: Path, *options: str) -> tuple[dict, str]:
    given = ("--model", str(folder / "bundle"), "--audio", str(folder / "audio"), "--threads", "1")
    out = folder / f"{script}.json"
    command = [sys.executable, str(BENCHMARKS / script), *given, *QUERY, "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout


def test_the_streams_that_are_held_are_counted(folder: Path) -> None:
    record, out = run("serving.py", folder, "--streams", "1", "2", "--seconds", "3", "--limit", "30")
    assert record["most_streams"] == 2
    assert [row["streams"] for row in record["rows"]] == [1, 2]
    for row in record["rows"]:
        assert row["finals"] > 0
        assert 0 < row["final_delay_median"] <= row["final_delay_95"] <= row["final_delay_most"]
        assert row["errors"] == []
    assert "2 streams" in out


def test_a_soak_finds_nothing_wrong(folder: Path) -> None:
    record, out = run(
        "soak.py", folder, "--minutes", "0.1", "--every", "2", "--lengths", "2", "--plot", str(folder / "soak.png")
    )
    assert record["problems"] == []
    assert record["counts"]["files"] > 0
    assert len(record["rows"]) >= 3
    assert all(row["resident_mib"] > 0 for row in record["rows"])
    assert (folder / "soak.png").stat().st_size > 1000
    assert "0 problems" in out
