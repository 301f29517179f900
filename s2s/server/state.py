"""What the routes of a server share."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from s2s.server.errors import RequestError, stopping
from s2s.server.files import be_nice
from s2s.server.metrics import Metrics
from s2s.server.models import Models
from s2s.server.settings import ServerSettings


@dataclass(eq=False)
class ServerState:
    """The models and limits of a server, and what is in hand.

    Attributes:
        folder: where uploads are while they are needed.
        pool: threads in which files are decoded.
        stopping: set when the server takes nothing new and ends what it has.
        num_requests: files in hand.
        num_sessions: live sessions in hand.
    """

    settings: ServerSettings
    models: Models
    metrics: Metrics
    folder: Path
    pool: ThreadPoolExecutor
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    num_requests: int = 0
    num_sessions: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in hand."""
        return not self.num_requests and not self.num_sessions

    @contextmanager
    def request(self) -> Iterator[None]:
        """While a file is in hand; RequestError where there are too many, or the server ends."""
        if self.stopping.is_set():
            raise stopping()
        if self.num_requests >= self.settings.max_requests:
            message = f"{self.num_requests} files are in hand, as many as are allowed; try again"
            raise RequestError(429, "too_many_requests", message)
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    @contextmanager
    def session(self, model: str) -> Iterator[None]:
        """While a live session is open; RequestError where there are too many, or the server ends."""
        if self.stopping.is_set():
            raise stopping()
        if self.num_sessions >= self.settings.max_sessions:
            message = f"{self.num_sessions} sessions are open, as many as are allowed; try again"
            raise RequestError(503, "too_many_sessions", message)
        self.num_sessions += 1
        self.metrics.opened.labels(model).inc()
        self.metrics.sessions.labels(model).inc()
        try:
            yield
        finally:
            self.num_sessions -= 1
            self.metrics.sessions.labels(model).dec()


@contextmanager
def state_of(models: Models, settings: ServerSettings, metrics: Metrics) -> Iterator[ServerState]:
    """The state of a server that has nothing in hand; its folder and threads end with it."""
    with tempfile.TemporaryDirectory(prefix="s2s-serve-", ignore_cleanup_errors=True) as folder:
        pool = ThreadPoolExecutor(settings.max_requests, "file", initializer=be_nice)
        try:
            yield ServerState(settings, models, metrics, Path(folder), pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
