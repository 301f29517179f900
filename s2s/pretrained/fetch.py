"""Files from the network: kept, gone on with after a break, and checked against their SHA-256."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from s2s.errors import UserError
from s2s.version import __version__

BLOCK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without an answer or a byte
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


def cache_folder() -> Path:
    """Where downloads and what is made of them are kept: `S2S_CACHE`, else s2s in the user's cache folder."""
    own = os.environ.get("S2S_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s2s"


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time make `path`; its folder is made. UserError where that cannot be written."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(f"{path}: another process is making it; waiting", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path.parent}: cannot write here ({reason}); name another folder in S2S_CACHE") from error
    try:
        yield
    finally:
        lock.release()


def sha256(*paths: Path) -> str:
    """The SHA-256, in hexadecimal, of the files' content, one behind the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def fetch(url: str, path: Path, expected: str) -> Path:
    """`path` with the content of `url`, whose SHA-256 is `expected`; a file that is there already is only checked.

    What a break leaves stands beside it as `.partial`, and the next call goes on from there. Raises UserError for a
    place that cannot be reached or refuses, a connection that breaks, and a wrong checksum; then the file is removed.
    """
    partial = path.with_name(f"{path.name}.partial")
    with only_one(path):
        if path.exists():
            partial = path
        else:
            _download(url, partial)
        found = sha256(partial)
        if found != expected:
            partial.unlink()
            raise UserError(
                f"{path}: the SHA-256 is {found}, expected {expected}; the file was removed, run again to fetch it "
                f"anew from {url}"
            )
        partial.replace(path)
    return path


def _download(url: str, partial: Path) -> None:
    """Add to `partial` what it lacks of the content of `url`."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": f"s2s/{__version__}", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE:  # there is no more to come; the checksum tells whether it is right
            return
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise UserError(f"{url}: cannot be reached ({getattr(error, 'reason', error)})") from error
    with response:
        start = start if response.status == PARTIAL_CONTENT else 0  # some servers send the whole file again
        size = None if response.length is None else start + response.length
        with partial.open("ab" if start else "wb") as file, _progress(url, start, size) as advance:
            for block in _blocks(url, response):
                file.write(block)
                advance(len(block))
            if size is not None and file.tell() < size:
                raise UserError(f"{url}: the connection broke after {file.tell()} of {size} bytes; run again to go on")


def _blocks(url: str, response: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise UserError(f"{url}: the connection broke ({error}); run again to go on") from error


@contextmanager
def _progress(url: str, start: int, size: int | None) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal, in bytes; yields what to call with the number of bytes of each block."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(url.rpartition("/")[2], total=size, completed=start)
        yield lambda count: progress.advance(task, count)
