"""The documented nginx in front of two servers; it needs the program nginx."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from toy_server import Running, pcm, running, said, speak, texts, wait_for, wav

CONFIG = Path(__file__).parents[2] / "docs" / "serving" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx: install Debian's package nginx-light")


@pytest.fixture(scope="module")
def replicas(bundle: Path) -> Iterator[list[Running]]:
    with running({"toy": str(bundle)}) as one, running({"toy": str(bundle)}) as two:
        yield [one, two]


@pytest.fixture(scope="module")
def proxy(replicas: list[Running], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The documented configuration, at other ports."""
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = CONFIG.read_text()
    for number, served in enumerate(replicas, start=1):
        text = text.replace(f"127.0.0.1:800{number}", f"127.0.0.1:{served.port}")
    text = text.replace("listen 8000;", f"listen 127.0.0.1:{port};")
    (folder / "nginx.conf").write_text(text)
    command = [str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-g", "daemon off; user root;"]
    if Path("/proc/self").stat().st_uid:
        command[-1] = "daemon off;"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield replace(replicas[0], port=port)
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_files_sessions_and_the_page_go_through(proxy: Running, replicas: list[Running], bundle: Path) -> None:
    assert "Speech to text" in proxy.get("/").text
    answers = [proxy.post(wav(pcm(2.0))) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    data = pcm(2.0)
    with proxy.connect(origin=proxy.url) as client, proxy.connect() as other:
        assert [served.server.state.num_sessions for served in replicas] == [1, 1]  # one for each
        assert texts(speak(client, data)) == texts(speak(other, data)) == said(bundle, data)
    assert proxy.get("/metrics").status_code == 403


def test_events_are_not_held_back(proxy: Running) -> None:
    files = {"file": ("a.wav", wav(pcm(70.0)))}
    url = f"{proxy.url}/v1/audio/transcriptions"
    with httpx.stream("POST", url, files=files, data={"stream": "true"}, timeout=60) as answer:
        events = [line for line in answer.iter_lines() if line]
    assert len(events) > 2
    assert all(re.match(r'data: \{"type": "transcript.text', line) for line in events)


def test_another_takes_over_from_one_that_stops(proxy: Running, replicas: list[Running], bundle: Path) -> None:
    replicas[0].stop()
    for _ in range(4):
        assert proxy.post(wav(pcm(1.0))).status_code == 200
        with proxy.connect() as client:
            assert texts(speak(client, pcm(1.0))) == said(bundle, pcm(1.0))
