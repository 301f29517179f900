"""`/v1/audio/stream`: a WebSocket that takes 16-bit samples and gives events.

The protocol is in docs/serving.md.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket

from s2s.errors import UserError, nearest
from s2s.server.access import SUBPROTOCOL
from s2s.server.answers import word_json
from s2s.server.errors import RequestError, model_failed, stopping
from s2s.server.live import End, LiveSession, Told, samples_of
from s2s.server.models import ServedModel, StreamRequest
from s2s.server.state import ServerState

PARAMETERS = ("model", "sample_rate", "encoding", "language", "task", "chunk", "decoding", "policy")
LOWEST, HIGHEST = 8000, 96000  # hertz
BEHIND = 5.0  # seconds of audio that wait for the model; then the client waits
MOST_UNREAD = 100  # events that a client may leave unread before partial ones are left out
CLOSE = {"invalid_audio": 1007, "invalid_message": 1003, "model_error": 1011, "stopping": 1012}  # others: 1008


@dataclass(frozen=True)
class _Wish:
    model: ServedModel
    request: StreamRequest
    rate: int


async def stream(websocket: WebSocket) -> None:
    """One live session, from the handshake to the last event."""
    state: ServerState = websocket.app.state.server
    try:
        wish = _read(websocket.query_params, state)
        streamer = await asyncio.to_thread(_streamer, wish)
        with state.session(wish.model.name):
            offered = websocket.scope.get("subprotocols", [])
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            told: asyncio.Queue[Told | End] = asyncio.Queue()
            loop = asyncio.get_running_loop()

            def tell(event: Told | End) -> None:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(told.put_nowait, event)

            live = wish.model.live.open(streamer, wish.rate, tell)
            try:
                await _Conversation(websocket, live, told, state, wish).run()
            finally:
                live.drop()
    except RequestError as error:
        state.metrics.errors.labels(error.code).inc()
        await websocket.send_denial_response(error.response)


def _streamer(wish: _Wish) -> Any:
    try:
        return wish.model.streamer(wish.request)
    except UserError as error:
        raise RequestError(400, "invalid_value", str(error)) from error


def _read(query: QueryParams, state: ServerState) -> _Wish:
    """What the query asks for; RequestError for what is not known or out of range."""
    for name in query:
        if name not in PARAMETERS:
            hint = nearest(name[:100], PARAMETERS)
            raise _wrong(name[:100], f"is not known here; expected {', '.join(PARAMETERS)}.{hint}")
    model = state.models.named(query.get("model"))
    encoding = query.get("encoding", "s16le")
    if encoding != "s16le":
        raise _wrong("encoding", f"'{encoding[:100]}': expected s16le, 16-bit samples with the low byte first")
    rate, chunk = query.get("sample_rate", "16000"), query.get("chunk")
    if not (rate.isascii() and rate.isdecimal() and len(rate) < 9 and LOWEST <= int(rate) <= HIGHEST):
        raise _wrong("sample_rate", f"'{rate[:100]}': expected {LOWEST} to {HIGHEST} hertz")
    try:
        seconds = None if not chunk else round(float(chunk), 2)
    except ValueError as error:
        raise _wrong("chunk", f"'{(chunk or '')[:100]}': expected seconds") from error
    request = StreamRequest(
        chunk=seconds,
        decoding=query.get("decoding") or None,
        policy=query.get("policy") or None,
        language=query.get("language") or None,
        task=query.get("task") or "transcribe",
    )
    return _Wish(model, request, int(rate))


def _wrong(name: str, problem: str) -> RequestError:
    return RequestError(400, "invalid_value", f"{name}: {problem}", name)


class _Conversation:
    """What is said on one WebSocket. Whatever ends it, what was heard is told first, where there is still somebody."""

    def __init__(
        self,
        websocket: WebSocket,
        live: LiveSession,
        told: asyncio.Queue[Told | End],
        state: ServerState,
        wish: _Wish,
    ) -> None:
        self.websocket, self.live, self.told, self.state, self.wish = websocket, live, told, state, wish
        self.problem: RequestError | None = None
        self.ended = False

    async def run(self) -> None:
        """Until all is told, or the client is gone."""
        hearing = asyncio.create_task(self._hear())
        telling = asyncio.create_task(self._tell())
        stops = asyncio.create_task(self.state.stopping.wait())
        tasks = {hearing, telling, stops}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stops.done():
                self._end(stopping())
            await asyncio.wait({hearing, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, problem: RequestError | None = None) -> None:
        """No more is heard."""
        if not self.ended:
            self.ended, self.problem = True, problem
            self.live.end()

    async def _hear(self) -> None:
        """Take what the client sends, until it is gone."""
        settings = self.state.settings
        while True:
            limit = None if self.ended else settings.idle_seconds
            try:
                message = await asyncio.wait_for(self.websocket.receive(), limit)
            except asyncio.TimeoutError:
                self._end(RequestError(408, "idle", f"nothing came for {settings.idle_seconds:g} s"))
                continue
            if message["type"] == "websocket.disconnect":
                return
            if self.ended:
                continue
            try:
                if (data := message.get("bytes")) is not None:
                    self._push(data)
                else:
                    _check_message(message.get("text") or "")
                    self._end()
            except RequestError as error:
                self._end(error)
            while self.live.behind > BEHIND and not self.ended and not self.state.stopping.is_set():
                await asyncio.sleep(0.02)

    def _push(self, data: bytes) -> None:
        if len(data) % 2:
            problem = f"a message of {len(data)} bytes: expected whole 16-bit samples"
            raise RequestError(422, "invalid_audio", problem)
        if not self.live.num_pushed and data.startswith((b"RIFF", b"OggS", b"fLaC", b"ID3", b"\x1a\x45\xdf\xa3")):
            raise RequestError(422, "invalid_audio", "a file, not samples: send 16-bit samples without a header")
        most = self.state.settings.max_session_seconds
        if (self.live.num_pushed + len(data) // 2) / self.live.rate > most:
            raise RequestError(413, "too_long", f"a session of more than {most:g} s; begin a new one")
        self.live.push(samples_of(data))

    async def _tell(self) -> None:
        """Tell the client of what was heard, and close."""
        await self._send(
            {
                "type": "ready",
                "model": self.wish.model.name,
                "sample_rate": self.wish.rate,
                "encoding": "s16le",
                "language": self.wish.request.language,
                "task": self.wish.request.task,
            }
        )
        while True:
            event = await self.told.get()
            if isinstance(event, Told):
                if event.event.kind == "final" or self.told.qsize() < MOST_UNREAD:
                    await self._send(_content(event))
                continue
            problem = self.problem
            if event.error is not None:
                is_ours = not isinstance(event.error, UserError)
                problem = model_failed() if is_ours else RequestError(422, "invalid_audio", str(event.error))
            if problem is not None:
                self.state.metrics.errors.labels(problem.code).inc()
                await self._send({"type": "error", **problem.body})
            else:
                await self._send({"type": "end", "heard": round(event.heard, 4)})
            await self.websocket.close(1000 if problem is None else CLOSE.get(problem.code, 1008))
            return

    async def _send(self, content: dict[str, Any]) -> None:
        await self.websocket.send_text(json.dumps(content, ensure_ascii=False))


def _check_message(text: str) -> None:
    """RequestError for a text that is not the message that ends a session."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("type") != "end":
        expected = 'expected samples as binary messages, and {"type": "end"} when there are no more'
        raise RequestError(400, "invalid_message", f"a text of {len(text)} characters: {expected}")


def _content(told: Told) -> dict[str, Any]:
    event = told.event
    return {
        "type": event.kind,
        "text": event.text,
        "stable": event.stable,
        "start": round(event.start, 4),
        "end": round(event.end, 4),
        "heard": round(event.heard, 4),
        "latency": round(told.latency, 4),
        "words": None if event.words is None else [word_json(word) for word in event.words],
    }
