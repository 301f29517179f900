from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

from s2s.errors import UserError
from s2s.scoring.table import decoding_table


def decoded(s2s_cli: Cli, folder: Path, mode: str, hypothesis: str, factor: float) -> None:
    (folder / mode).mkdir()
    (folder / "text").write_text("a one two\nb three\n")
    (folder / mode / "text").write_text(hypothesis)
    code, out, _ = s2s_cli("score", "wer", folder / "text", folder / mode / "text", "--cer", "--json")
    assert code == 0
    (folder / mode / "score.json").write_text(out)
    (folder / mode / "decode.json").write_text(json.dumps({"real_time_factor": factor}))


def test_every_decoding_has_a_row_with_its_rates_the_best_first(s2s_cli: Cli, tmp_path: Path) -> None:
    decoded(s2s_cli, tmp_path, "greedy", "a one too\nb\n", 0.001)
    decoded(s2s_cli, tmp_path, "joint", "a one two\nb three\n", 0.02)
    code, out, err = s2s_cli("score", "table", tmp_path)
    assert code == 0, err
    assert out.splitlines() == [
        "| decoding | WER | CER | sentence errors | RTF |",
        "|---|---|---|---|---|",
        "| joint | 0.00% (0 ins, 0 del, 0 sub) | 0.00% | 0.00% (0 of 2) | 0.0200 |",
        "| greedy | 66.67% (0 ins, 1 del, 1 sub) | 50.00% | 100.00% (2 of 2) | 0.0010 |",
    ]


def test_what_is_missing_or_broken_is_named(s2s_cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*/score\.json"):
        decoding_table(tmp_path)
    decoded(s2s_cli, tmp_path, "joint", "a one two\nb three\n", 0.02)
    (tmp_path / "joint" / "decode.json").write_text("{}")
    with pytest.raises(UserError, match=r"joint: .* lacks 'real_time_factor'"):
        decoding_table(tmp_path)
    (tmp_path / "joint" / "decode.json").write_text("[1")
    with pytest.raises(UserError, match=r"decode\.json: not JSON"):
        decoding_table(tmp_path)
    (tmp_path / "joint" / "decode.json").unlink()
    with pytest.raises(UserError, match=r"decode\.json: no such file"):
        decoding_table(tmp_path)
