"""A server from its settings, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from s2s.errors import UserError
from s2s.server.app import build_app
from s2s.server.metrics import Metrics
from s2s.server.models import Models
from s2s.server.settings import ServerSettings
from s2s.server.state import ServerState, state_of

log = logging.getLogger("s2s.server")


class Server(uvicorn.Server):
    """uvicorn's, which at a signal first lets live sessions and files come to their ends, for `grace_seconds`.

    A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self.state = state
        self._asked = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super()._serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What a signal does; no exception follows it: to be told to stop is no failure."""
        self.stop()

    def stop(self) -> None:
        """Begin to end; from any thread, or a signal."""
        if self._asked or self._loop is None:
            self.force_exit = self.should_exit = True
            return
        self._asked = True
        self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._drain()))

    async def _drain(self) -> None:
        self.state.stopping.set()
        deadline = asyncio.get_running_loop().time() + self.state.settings.grace_seconds
        while not self.state.is_idle and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        self.should_exit = True


@contextlib.contextmanager
def server_of(models: Models, settings: ServerSettings, metrics: Metrics) -> Iterator[Server]:
    """A server that is ready to run."""
    with state_of(models, settings, metrics) as state:
        config = uvicorn.Config(
            build_app(state),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws_max_size=1 << 20,
            ws_ping_interval=settings.ping_seconds,
            ws_ping_timeout=settings.ping_seconds,
            timeout_graceful_shutdown=2,
        )
        yield Server(config, state)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; UserError where that address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        hint = {
            errno.EADDRINUSE: "another program listens there; choose another with --port",
            errno.EACCES: "ports below 1024 are the system's; choose another with --port",
        }.get(error.errno or 0, "choose another with --host")
        known = isinstance(error, socket.gaierror) or not error.errno
        problem = error.strerror if known else os.strerror(error.errno or 0)
        raise UserError(f"{host}:{port}: cannot listen there ({problem}); {hint}") from error


def run(server: Server, sock: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the address first."""
    host, port = sock.getsockname()[:2]
    ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    server.run([sock])
