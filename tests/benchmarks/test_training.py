from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training.py"
SIZES = {"model-dim": 16, "num-heads": 2, "feed-forward-dim": 16, "encoder-layers": 1, "decoder-layers": 1}
SIZES |= {"vocab-size": 30, "threads": 1, "repeats": 3, "rounds": 2, "batch-size": 2, "seconds": 1}
TINY = [f"--{name}={value}" for name, value in SIZES.items()]


def test_steps_are_taken_learn_and_are_recorded(data_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    command = [sys.executable, str(SCRIPT), *TINY, "--data-root", str(data_root), "--out", str(out)]
    done = subprocess.run([*command, "--without", "speechbrain,espnet"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    run = record["runs"]["s2s"]
    assert run["steps"] == 6
    assert run["utterances_per_second"] == pytest.approx(2 / run["step_seconds"], rel=1e-2)
    assert run["losses"][-1] < run["losses"][0]
    assert run["peak_rss_mb"] > 10
    assert set(record["runs"]) == {"s2s", "s2s, small front"}
    assert "s2s" in done.stdout


def test_an_unknown_peer_is_named() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--without", "kaldi"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no peer kaldi" in done.stderr
