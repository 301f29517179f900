"""Every command of docs/scoring.md, run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from parallel_toy import sentences, spoilt

Cli = Callable[..., tuple[int, str, str]]
TEXT = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = [line.split("#")[0].strip() for line in BLOCKS.splitlines() if line.strip()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page names."""
    texts = sentences(30)
    outputs = {"a": spoilt(texts, 0.3, 1), "b": spoilt(texts, 0.2, 2)}
    for name, lines in {"ref": texts, "ref2": spoilt(texts, 0.1, 3), **outputs}.items():
        for kind in ("de", "tok.de"):
            (tmp_path / f"{name}.{kind}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for place, lines in {"data/test": texts, "exp/a": outputs["a"], "exp/b": outputs["b"]}.items():
        (tmp_path / place).mkdir(parents=True)
        keyed = "".join(f"u{i} {line}\n" for i, line in enumerate(lines))
        (tmp_path / place / "text").write_text(keyed, encoding="utf-8")
    soundfile.write(tmp_path / "silence.wav", np.zeros(1600), 16000)
    data = tmp_path / "data" / "test"
    (data / "wav.scp").write_text("".join(f"u{i} {tmp_path / 'silence.wav'}\n" for i in range(30)))
    (data / "utt2spk").write_text("".join(f"u{i} s{i % 3}\n" for i in range(30)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 15
    assert {command.split()[2] for command in COMMANDS} == {"wer", "bleu", "chrf", "ter", "compare", "report"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, folder: Path, s2s_cli: Cli) -> None:
    program, *arguments = shlex.split(command)
    assert program == "s2s"
    code, out, err = s2s_cli(*arguments)
    assert code == 0, err
    assert "error" not in err
    assert out
    if "--out" in arguments:
        assert (folder / arguments[arguments.index("--out") + 1]).stat().st_size > 10_000


def test_what_the_page_says_of_signatures_holds(folder: Path, s2s_cli: Cli) -> None:
    line = s2s_cli("score", "bleu", "ref.de", "a.de")[1]
    assert line.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "nrefs:2" in s2s_cli("score", "bleu", "ref.de", "a.de", "--ref", "ref2.de")[1]
    tokenised = s2s_cli("score", "bleu", "ref.tok.de", "a.tok.de", "--tokenize", "none", "--lower-case")[1]
    assert "case:lc" in tokenised
    assert "tok:none" in tokenised
    assert s2s_cli("score", "chrf", "ref.de", "a.de", "--word-order", "2")[1].startswith("chrF2++|")
