"""What README.md and docs/ tell people to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from toy import toy_bundle
from toy_stream import streaming_bundle

from s2s.cli.main import app
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.nn.attention.config import KINDS, PROJECTIONS, REACHES, AttentionConfig
from s2s.nn.positions import POSITIONS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_lines_of_python_run(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_bundle().save(tmp_path / "bundle")
    streaming_bundle().save(tmp_path / "streaming")
    recordings = sorted((data_root / "fsdd" / "recordings").glob("3_*_0.flac"))[:2]
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            code = block.replace("egs/fsdd/asr/exp/demo/bundle", str(tmp_path / "bundle"))
            code = code.replace("egs/kerstin/asr/exp/run/bundle", str(tmp_path / "streaming"))
            code = code.replace("recording.wav", str(recordings[0])).replace("another.flac", str(recordings[1]))
            exec(compile(code, str(page), "exec"), {})
    assert capsys.readouterr().out.count(" s, score ") == 2


def test_every_command_and_option_that_is_named_exists() -> None:
    group = typer.main.get_command(app)
    named = set()
    for page in PAGES:
        for line in re.findall(r"`(s2s [^`]+)`|^ *(s2s .+)$", page.read_text(), re.MULTILINE):
            named.add((line[0] or line[1]).split("#")[0].strip())
    assert len(named) > 10
    for line in sorted(named):
        words = shlex.split(line)[1:]
        command = group.commands[words[0]]  # type: ignore[attr-defined]
        if hasattr(command, "commands") and len(words) > 1:
            command = command.commands[words[1]]
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            assert not word.startswith("--") or word in options, line


def test_every_override_of_a_decoding_that_is_named_is_accepted() -> None:
    seen = 0
    for page in PAGES:
        for line in re.findall(r"^ *(s2s decode .+)$", page.read_text(), re.MULTILINE):
            load_decoding_config([word for word in shlex.split(line) if word.startswith("decoding")])
            seen += 1
        for key, value in re.findall(r"`decoding\.(\w+)(?:=(\w+))?`", page.read_text()):
            assert key in DecodingConfig.__dataclass_fields__, f"{page.name}: decoding.{key}={value}"
    assert seen >= 10


def test_files_that_are_named_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.+)$", (page.parent / path).read_text(), re.MULTILINE) if anchor else []
            assert not anchor or anchor in [each.lower().replace(" ", "-") for each in headings], target


def test_every_attention_that_is_named_is_one_and_all_keys_are_named() -> None:
    text = (ROOT / "docs" / "attention.md").read_text()
    found = [AttentionConfig(**yaml.safe_load(each)) for each in re.findall(r"`(\{[^`]+\})`", text)]
    assert {config.kind for config in found} == set(KINDS)
    assert {config.projection for config in found} == set(PROJECTIONS)
    assert {config.reach for config in found} == set(REACHES)
    assert [key for key in AttentionConfig.__dataclass_fields__ if key not in text] == []
    for kind in POSITIONS:
        assert f"| `{kind}` |" in text


def test_importing_s2s_loads_nothing_heavy() -> None:
    code = (
        "import sys, s2s, s2s.cli.main; print([m for m in ('torch', 'lhotse', 'hydra', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
