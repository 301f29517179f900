"""The routes of a server."""

from __future__ import annotations

import asyncio
import logging
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from s2s.server.access import Access
from s2s.server.errors import RequestError
from s2s.server.sessions import stream
from s2s.server.state import ServerState
from s2s.server.transcriptions import transcribe, translate

log = logging.getLogger("s2s.server")
_TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
_REFUSED = {404: "no such path here; docs/serving.md names those that there are", 405: "not with this method"}


def build_app(state: ServerState) -> Starlette:
    """The application of a server; it holds nothing but its state."""
    routes = [
        Route("/", page),
        Route("/page/{name}", page),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/v1/models", models),
        Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
        Route("/v1/audio/translations", translate, methods=["POST"]),
        WebSocketRoute("/v1/audio/stream", stream),
    ]
    paths = [route.path for route in routes if isinstance(route, Route | WebSocketRoute)]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Access, settings=state.settings, metrics=state.metrics, paths=paths)],
        exception_handlers={RequestError: _refused, HTTPException: _unknown, Exception: _failed},
    )
    app.state.server = state
    return app


_PAGE = {each.name: each.read_bytes() for each in (files("s2s.server") / "page").iterdir() if "." in each.name}


async def page(request: Request) -> Response:
    """The page, and its style and scripts."""
    name = request.path_params.get("name", "index.html")
    if name not in _PAGE:
        raise RequestError(404, "not_found", _REFUSED[404])
    media_type = _TYPES[name.rpartition(".")[2]]
    return Response(_PAGE[name], media_type=media_type, headers={"Cache-Control": "no-cache"})


async def health(request: Request) -> Response:
    """Whether new requests are taken (200), or the server is stopping (503)."""
    state: ServerState = request.app.state.server
    ends = state.stopping.is_set()
    content = {
        "status": "stopping" if ends else "ok",
        "models": list(state.models),
        "sessions": state.num_sessions,
        "requests": state.num_requests,
        "token": state.settings.token is not None,
    }
    return JSONResponse(content, 503 if ends else 200)


async def metrics(request: Request) -> Response:
    """Prometheus' figures."""
    state: ServerState = request.app.state.server
    text = await asyncio.to_thread(state.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def models(request: Request) -> Response:
    """The models and what each can do."""
    state: ServerState = request.app.state.server
    data = [
        {"id": model.name, "object": "model", "created": 0, "owned_by": "s2s", **model.description}
        for model in state.models.values()
    ]
    return JSONResponse({"object": "list", "data": data})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    request.app.state.server.metrics.errors.labels(error.code).inc()
    return error.response


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = _REFUSED.get(error.status_code, error.detail)
    answer = RequestError(error.status_code, "not_found" if error.status_code == 404 else "refused", message).response
    answer.headers.update(error.headers or {})
    return answer


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    request.app.state.server.metrics.errors.labels("internal").inc()
    return RequestError(500, "internal", "the server failed; its log says how").response
