from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import Cli
from toy import toy_bundle


def test_help_names_every_command(s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("--help")
    assert code == 0
    for command in ("train", "average", "decode", "transcribe", "bundle", "info", "data", "tokenizer", "score"):
        assert f" {command} " in out


def test_what_the_system_refuses_is_one_line(s2s_cli: Cli, tmp_path: Path) -> None:
    toy_bundle().save(tmp_path / "model")
    (tmp_path / "file").touch()
    code, _, err = s2s_cli("average", tmp_path / "model", "--out", tmp_path / "file" / "averaged")
    assert code == 1
    assert err.startswith("s2s: error: ")
    assert str(tmp_path / "file") in err
    assert len(err.splitlines()) == 1


def test_a_reader_that_stops_reading_gets_no_traceback(tmp_path: Path) -> None:
    lines = "".join(f"u{number} one two\n" for number in range(20_000))
    (tmp_path / "text").write_text(lines)
    command = [sys.executable, "-m", "s2s.cli.main", "score", "wer", "text", "text", "--alignments"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
