"""`s2s serve` as a process: how it starts, what it refuses, how it stops."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Cli
from toy_server import events_of, pcm, said, speak, texts, wav
from toy_stream import RATE, streaming_bundle
from websockets.sync.client import ClientConnection, connect


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    streaming_bundle().save(folder)
    return folder


@contextmanager
def serving(*options: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server at any free port, and its address."""
    command = [sys.executable, "-m", "s2s.cli.main", "serve", "--port", "0", *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stderr is not None
    try:
        line = ""
        for line in process.stderr:
            if " at http" in line:
                break
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def live(address: str) -> ClientConnection:
    query = f"sample_rate={RATE}&decoding=ctc_greedy&chunk=0.16"
    return connect(f"{address.replace('http', 'ws')}/v1/audio/stream?{query}", ping_interval=None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_all_is_told(bundle: Path, number: signal.Signals) -> None:
    with serving("--model", f"toy={bundle}", "--decoding", "ctc_greedy") as (process, address):
        assert httpx.get(f"{address}/health").json()["models"] == ["toy"]
        answer = httpx.post(f"{address}/v1/audio/transcriptions", files={"file": wav(pcm(1.0))}, timeout=60)
        assert answer.json()["text"]
        data = pcm(2.0)
        with live(address) as client, live(address) as other:
            assert texts(speak(other, data)) == said(bundle, data)
            client.send(data)
            process.send_signal(number)
            events = events_of(client)
        assert texts(events)[-1] == said(bundle, data)[-1]
        assert client.close_code == 1012
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert err == "s2s: stopped\n"


def test_a_second_signal_does_not_wait(bundle: Path) -> None:
    with serving("--model", bundle, "--grace-seconds", "600") as (process, address), socket.socket() as client:
        client.connect(("127.0.0.1", int(address.rsplit(":", 1)[1])))
        client.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        while not httpx.get(f"{address}/health").json()["requests"]:
            pass
        process.send_signal(signal.SIGTERM)
        while httpx.get(f"{address}/health").status_code == 200:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_sessions_are_set_and_models_named(bundle: Path) -> None:
    options = ("--model", f"one={bundle}", "--model", f"two={bundle}", "--set", "endpoint.max_length=0.64")
    with serving(*options) as (_, address):
        assert [each["id"] for each in httpx.get(f"{address}/v1/models").json()["data"]] == ["one", "two"]
        with live(address) as client:
            found = texts(speak(client, pcm(2.0)))
    assert [kind for kind, _ in found].count("final") > 2


@pytest.mark.parametrize("way", ["file", "environment"])
def test_the_token_comes_from_a_file_or_the_environment(bundle: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "token").write_text("sesame\n")
    options = ("--token-file", tmp_path / "token") if way == "file" else ()
    with serving("--model", bundle, *options, S2S_TOKEN="" if options else "sesame") as (_, address):
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer sesame"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--model", "nothing"), 1, "'nothing': no model"),
        (("--model", "=x"), 2, "expected MODEL or NAME=MODEL"),
        (("--token-file", "none"), 2, "--token-file none: cannot be read"),
        (("--idle-seconds", "0"), 2, "idle_seconds=0.0: expected a number above 0"),
        (("--set", "endpoint.silence=1"), 2, "endpoint.silence: no such key"),
        (("--decoding", "greedi"), 2, "--decoding greedi: expected one of"),
        (("--host", "192.0.2.1", "-q"), 1, "cannot listen there"),
        (("--device", "abacus"), 1, "--device abacus"),
    ],
)
def test_options_that_make_no_sense_are_named(
    s2s_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = s2s_cli("serve", "--port", 0, *options)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken_is_named(s2s_cli: Cli, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = s2s_cli("serve", "--model", bundle, "--port", port)
    assert code == 1
    assert f"127.0.0.1:{port}: cannot listen there" in err
    assert "--port" in err


def test_what_is_not_installed_is_named(s2s_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from s2s import optional

    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    code, _, err = s2s_cli("serve")
    assert code == 1
    assert "s2s serve needs starlette, uvicorn" in err
    assert "pip install 's2s[serve]'" in err


def test_help_names_every_path_and_limit(s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("serve", "--help")
    assert code == 0
    for each in ("/v1/audio/stream", "/health", "/metrics", "--max-sessions", "--grace-seconds", "S2S_TOKEN", "503"):
        assert each in out
