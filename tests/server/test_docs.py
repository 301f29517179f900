"""What docs/serving.md tells people to write works, and what it says is there, is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import yaml
from toy_server import Running, pcm, said, wav
from toy_stream import RATE

import s2s.server.asgi
from s2s.server.answers import FORMATS
from s2s.server.sessions import CLOSE, PARAMETERS
from s2s.server.wishes import OF_TRANSCRIPTIONS, SHARED

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "serving.md").read_text()


def test_the_lines_of_python_run(
    served: Running, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("talk.mp3", "recording.wav"):
        Path(name).write_bytes(wav(pcm(2.0)))
    blocks = re.findall(r"```py\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}"), "serving.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0]
    assert lines[1].split() == ["ready"]
    assert lines[-2].split(maxsplit=1)[0] == "final"
    assert lines[-1].split() == ["end"]
    assert said(bundle, pcm(2.0))


def test_what_is_named_is_there(served: Running) -> None:
    for name in ("file", *SHARED[:1], *FORMATS, *PARAMETERS[:1], "timestamp_granularities[]", "stream", "language"):
        assert f"`{name}`" in TEXT
    assert set(OF_TRANSCRIPTIONS) - {"chunking_strategy"} <= set(re.findall(r"`(\w+)(?:\[\])?`", TEXT))
    for name in set(PARAMETERS) - {"encoding"}:
        assert f"`{name}`" in TEXT
    for code in (1000, 1008, *CLOSE.values()):
        assert str(code) in TEXT
    served.post(wav(pcm(1.0)))
    figures = served.get("/metrics").text
    for name in re.findall(r"`((?:s2s|process)_\w+)`", TEXT):
        assert name in figures, name


def test_the_application_for_other_servers_answers(bundle: Path) -> None:
    from httpx import ASGITransport, AsyncClient

    app = s2s.server.asgi.application([f"toy={bundle}"])

    async def ask() -> list[str]:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://here") as client:
            return list((await client.get("/health")).json()["models"])

    assert asyncio.run(ask()) == ["toy"]
    app.state.server.models.stop()


def test_the_configurations_name_what_exists() -> None:
    ray = yaml.safe_load((DOCS / "serving" / "ray.yaml").read_text())
    module, name = ray["applications"][0]["import_path"].split(":")
    assert re.search(rf"^{name} = ", (DOCS / "serving" / f"{module}.py").read_text(), re.MULTILINE)
    unit = (DOCS / "serving" / "s2s@.service").read_text()
    command = re.search(r"^ExecStart=\S+/s2s (serve .*)$", unit, re.MULTILINE)
    assert command
    from typer.main import get_command

    from s2s.cli.main import app

    known = {o for p in get_command(app).commands["serve"].params for o in p.opts}  # type: ignore[attr-defined]
    assert set(re.findall(r"--[a-z-]+", command[1])) <= known
    assert RATE
