"""The application for other servers than our own: Ray Serve, Hypercorn, Gunicorn."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from contextlib import ExitStack

from starlette.applications import Starlette

from s2s.server.app import build_app
from s2s.server.metrics import Metrics
from s2s.server.models import named_models, serving
from s2s.server.settings import ServerSettings
from s2s.server.state import state_of


def application(models: Sequence[str], settings: ServerSettings | None = None) -> Starlette:
    """An ASGI application with the models `[NAME=]MODEL`, for as long as this process lives.

    Where it listens and for how long it may end is for the server that runs it. Raises UserError as `s2s serve` says.
    """
    settings, metrics, stack = settings or ServerSettings(), Metrics(), ExitStack()
    atexit.register(stack.close)
    loaded = stack.enter_context(serving(named_models(models), settings, metrics))
    return build_app(stack.enter_context(state_of(loaded, settings, metrics)))
