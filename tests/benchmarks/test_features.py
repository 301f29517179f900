from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "features.py"


def test_both_give_the_same_frames_and_the_record_says_how_it_was_made(data_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.json"
    command = [sys.executable, str(SCRIPT), "--data-root", str(data_root), "--repeats", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["frames"] > 100 * 0.9 * record["audio_seconds"]
    assert record["median_seconds"].keys() == {"s2s", "kaldi-native-fbank"}
    assert {"machine", "versions", "command", "threads"} <= record.keys()
