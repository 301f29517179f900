"""What a server allows and where it listens."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, fields

from s2s.errors import UserError

MIB = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens, and the limits of what it takes; UserError for a value out of range.

    Attributes:
        host: address to listen at.
        port: 0 for any that is free.
        token: what clients have to show; None: nothing.
        origins: of the pages of other servers that may use this one, such as "https://example.org".
        max_upload_bytes: of a request.
        max_file_seconds: of a recording that is sent as a file.
        max_requests: files in hand at once; more are refused (429).
        max_sessions: live sessions at once; more are refused (503).
        max_session_seconds: of audio in a live session; then it ends.
        idle_seconds: without anything from a client that has more to send; then its session ends, its upload fails.
        ping_seconds: between two pings of a live session; a client that leaves one unanswered for as long is gone.
        grace_seconds: for what is in hand when the server is told to stop.
        batch_seconds: of audio of files that is heard at once, whoever sent it.
        batch_sessions: live sessions that are heard at once.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    origins: tuple[str, ...] = ()
    max_upload_bytes: int = 100 * MIB
    max_file_seconds: float = 4 * 3600.0
    max_requests: int = 32
    max_sessions: int = 64
    max_session_seconds: float = 4 * 3600.0
    idle_seconds: float = 30.0
    ping_seconds: float = 20.0
    grace_seconds: float = 30.0
    batch_seconds: float = 60.0
    batch_sessions: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise UserError(f"port {self.port}: expected 0 to 65535")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise UserError("token: expected visible characters of ASCII")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("host", "port", "token", "origins") and not 0 < value < math.inf:
                raise UserError(f"{field.name}={value}: expected a number above 0")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
