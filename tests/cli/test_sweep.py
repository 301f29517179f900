from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_sweep_trains_with_every_value_into_folders_of_their_own(tiny: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2s.cli.sweep", "--multirun", f"hydra.sweep.dir={tmp_path}", *tiny]
    done = subprocess.run([*command, "training.max_epochs=1,2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for number, epochs in enumerate((1, 2)):
        lines = (tmp_path / str(number) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epochs + 1))
    again = subprocess.run([*command, "training.max_epochs=1,2"], capture_output=True, text=True)
    assert again.stdout.count("resuming from") == 2
    wrong = subprocess.run([*command, "optim.learning_rate=-1,1"], capture_output=True, text=True)
    assert wrong.returncode != 0
    assert "s2s: error: optim.learning_rate" in wrong.stderr
