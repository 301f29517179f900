from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from s2s.errors import UserError
from s2s.pretrained import fetch as module
from s2s.pretrained.fetch import cache_folder, fetch, sha256

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT; what it does, and what it was asked."""

    def __init__(self) -> None:
        self.ranges = True
        self.sent = len(CONTENT)  # bytes before the connection ends
        self.content = CONTENT
        self.lengths = True
        self.wait: threading.Event | None = None  # after what is sent
        self.asked: list[str | None] = []

        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers["Range"]
                server.asked.append(asked)
                if self.path != "/file":
                    return self.send_error(404, "Not Found")
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
                if start >= len(server.content):
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                if server.lengths:
                    self.send_header("Content-Length", str(len(server.content) - start))
                self.end_headers()
                self.wfile.write(server.content[start : server.sent])
                if server.wait:
                    server.wait.wait(20)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    if running.wait:
        running.wait.set()
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file"


def partial(path: Path) -> Path:
    return path.with_name("file.partial")


def test_a_file_is_fetched_once(server: Server, path: Path) -> None:
    assert fetch(server.url, path, SUM) == path
    assert fetch(server.url, path, SUM).read_bytes() == CONTENT
    assert server.asked == [None]
    assert not partial(path).exists()


@pytest.mark.parametrize("lengths", [True, False])
def test_a_broken_connection_is_gone_on_with(server: Server, path: Path, lengths: bool) -> None:
    server.sent = 300_000
    with pytest.raises(UserError, match=r"the connection broke after 300000 of 1048576 bytes; run again to go on"):
        fetch(server.url, path, SUM)
    assert partial(path).stat().st_size == 300_000
    assert not path.exists()
    server.sent, server.lengths = len(CONTENT), lengths
    assert fetch(server.url, path, SUM).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server: Server, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(CONTENT[:1000])
    server.ranges = False
    assert fetch(server.url, path, SUM).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_partial_file_that_is_whole_is_taken(server: Server, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(CONTENT)
    assert fetch(server.url, path, SUM).read_bytes() == CONTENT
    assert not partial(path).exists()


@pytest.mark.parametrize("start", [0, 1000, len(CONTENT) + 5])
def test_a_wrong_checksum_names_both_and_removes_the_file(server: Server, path: Path, start: int) -> None:
    path.parent.mkdir()
    if start:
        partial(path).write_bytes(b"x" * start)
    server.content = b"y" * len(CONTENT)
    found = hashlib.sha256(b"x" * start + server.content[start:]).hexdigest()
    with pytest.raises(UserError, match=rf"file: the SHA-256 is {found}, expected {SUM}; the file was removed"):
        fetch(server.url, path, SUM)
    assert not partial(path).exists()
    assert not path.exists()
    server.content = CONTENT
    assert fetch(server.url, path, SUM).read_bytes() == CONTENT


def test_a_cached_file_that_went_bad_is_noticed_and_removed(server: Server, path: Path) -> None:
    fetch(server.url, path, SUM)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"the SHA-256 is"):
        fetch(server.url, path, SUM)
    assert not path.exists()


def test_a_short_answer_without_a_length_is_a_wrong_checksum(server: Server, path: Path) -> None:
    server.lengths, server.sent = False, 1000
    with pytest.raises(UserError, match=r"the SHA-256 is"):
        fetch(server.url, path, SUM)
    assert not partial(path).exists()


def test_what_the_server_refuses_is_named(server: Server, path: Path) -> None:
    with pytest.raises(UserError, match=r"/other: the server answers 404 Not Found"):
        fetch(server.url.replace("/file", "/other"), path, SUM)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file", "https://name.invalid/file"])
def test_no_network_is_an_error_and_keeps_what_is_there(path: Path, url: str) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match=r"/file: cannot be reached \("):
        fetch(url, path, SUM)
    assert partial(path).read_bytes() == CONTENT[:1000]


def test_a_server_that_falls_silent_is_left(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.sent, server.wait = 300_000, threading.Event()
    with pytest.raises(UserError, match=r"the connection broke \(.*timed out"):
        fetch(server.url, path, SUM)
    assert partial(path).stat().st_size >= module.BLOCK


FETCH = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
from s2s.pretrained.fetch import fetch
fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


def started(server: Server, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FETCH, server.url, str(path), SUM], stderr=subprocess.PIPE)


def until(condition: object) -> None:
    end = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ctrl_c_leaves_what_the_next_call_goes_on_with(server: Server, path: Path) -> None:
    server.sent, server.wait = 600_000, threading.Event()
    process = started(server, path)
    until(lambda: partial(path).exists() and partial(path).stat().st_size >= module.BLOCK)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    size = partial(path).stat().st_size
    assert 0 < size <= 600_000
    assert not path.exists()
    server.wait.set()
    server.sent, server.wait = len(CONTENT), None
    assert fetch(server.url, path, SUM).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={size}-"]


def test_two_processes_fetch_a_file_once(server: Server, path: Path) -> None:
    server.sent, server.wait = 600_000, threading.Event()
    first = started(server, path)
    until(lambda: server.asked)
    second = started(server, path)
    assert b"another process is making it; waiting" in (second.stderr.readline() if second.stderr else b"")
    server.sent = len(CONTENT)
    first.send_signal(signal.SIGINT)  # the second goes on where the first was stopped
    server.wait.set()
    assert second.wait(timeout=20) == 0
    first.communicate(timeout=20)
    assert path.read_bytes() == CONTENT


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S2S_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("S2S_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "s2s"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "s2s"


def test_a_file_in_the_place_of_the_cache_is_an_error_with_a_way_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match=r"cannot write here .* S2S_CACHE"):
        fetch(server.url, tmp_path / "cache" / "file", SUM)


def test_the_checksum_of_parts_is_that_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:700_000])
    (tmp_path / "b").write_bytes(CONTENT[700_000:])
    assert sha256(tmp_path / "a", tmp_path / "b") == SUM
