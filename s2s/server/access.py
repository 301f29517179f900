"""Who may use a server: bearer tokens, other sites' pages, and what browsers are told."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from s2s.server.errors import RequestError
from s2s.server.metrics import Metrics
from s2s.server.settings import ServerSettings

SUBPROTOCOL = "s2s"
BEARER = "bearer."  # before the token in base64url: a page cannot give a WebSocket other headers
OPEN = re.compile(r"/|/health|/page/[a-z_]+\.(css|js)")  # paths that need no token
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """ASGI middleware that refuses who may not (401, 403), answers preflights, counts answers, adds headers."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, paths: Sequence[str]) -> None:
        self.app, self.settings, self.metrics, self.paths = app, settings, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        listed = origin is not None and origin in self.settings.origins

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer.setdefault(name, value)
                if listed and origin:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
                    answer.add_vary_header("Origin")
                path = scope["path"] if scope["path"] in self.paths else "other"
                self.metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            if origin is not None and not listed:
                _check_same(origin, headers.get("host", ""))
            if scope["type"] == "http" and scope["method"] == "OPTIONS" and listed:
                await _preflight()(scope, receive, send_with_headers)
                return
            if not OPEN.fullmatch(scope["path"]):
                self._check_token(headers, scope)
        except RequestError as error:
            self.metrics.errors.labels(error.code).inc()
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send_with_headers).send_denial_response(error.response)
            else:
                await error.response(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _check_token(self, headers: Headers, scope: Scope) -> None:
        expected = self.settings.token
        if expected is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = next(filter(None, map(_decoded, scope.get("subprotocols") or [])), "")
        if not hmac.compare_digest(given.strip().encode(), expected.encode()):
            raise RequestError(401, "invalid_token", "expected the header Authorization: Bearer TOKEN, with the token")


def _decoded(subprotocol: str) -> str:
    """The token in a subprotocol, or nothing."""
    if not subprotocol.startswith(BEARER):
        return ""
    text = subprotocol.removeprefix(BEARER)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


def _check_same(origin: str, host: str) -> None:
    """RequestError for the page of another server."""
    if urlsplit(origin).netloc.lower() != host.lower():
        problem = (
            f"pages of {origin[:200]} may not use this server; it was started without --allow-origin {origin[:200]}"
        )
        raise RequestError(403, "origin_not_allowed", problem)


def _preflight() -> Response:
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=headers)
