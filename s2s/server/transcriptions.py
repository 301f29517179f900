"""`POST /v1/audio/transcriptions` and `/translations`, as OpenAI's clients ask for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from s2s.errors import UserError
from s2s.server.answers import TEXTS, as_json, as_verbose, segment_json, text_of, word_json
from s2s.server.errors import RequestError, model_failed
from s2s.server.state import ServerState
from s2s.server.uploads import Upload, check_audio, received, recording, undecodable
from s2s.server.wishes import Wish, read_wish
from s2s.transcription.subtitles import one_line, segments_of
from s2s.transcription.transcriber import Event
from s2s.transcription.transcript import Segment, Transcript

log = logging.getLogger("s2s.server")
GONE = 499  # nginx' code for a client that did not wait


async def transcribe(http: HttpRequest) -> Response:
    """A file's text in the language spoken."""
    return await _answer(http, "transcribe")


async def translate(http: HttpRequest) -> Response:
    """A file's text in English."""
    return await _answer(http, "translate")


async def _answer(http: HttpRequest, task: str) -> Response:
    state: ServerState = http.app.state.server
    async with AsyncExitStack() as stack:
        stack.enter_context(state.request())
        upload = await stack.enter_async_context(received(http, state.folder, state.settings))
        wish = read_wish(upload.fields, state.models, task)
        await asyncio.to_thread(check_audio, upload.path, state.settings)
        events = _events(state, upload, wish)
        stack.push_async_callback(events.aclose)
        if not wish.stream:
            found = await _unless_gone(http, _last(events))
            return Response(status_code=GONE) if found is None else _shaped(found, wish)
        first = await _unless_gone(http, anext(events))
        if first is None:
            return Response(status_code=GONE)
        return _EventStream(_told(first, events, wish), stack.pop_all())
    raise AssertionError


async def _events(state: ServerState, upload: Upload, wish: Wish) -> AsyncGenerator[list[Segment] | Transcript, None]:
    """What the model says of a file, as it is known: more segments, at last the transcript. Raises RequestError."""
    job, loop = wish.model.job(), asyncio.get_running_loop()
    told: asyncio.Queue[Event | Exception] = asyncio.Queue()

    def tell(event: Event | Exception) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(told.put_nowait, event)

    def work() -> None:
        try:
            for event in job.events([recording(upload.path, state.settings)], wish.request):
                tell(event)
        except Exception as error:
            tell(error)

    try:
        state.pool.submit(work)
        while True:
            event = await told.get()
            if isinstance(event, RequestError):
                raise event
            if isinstance(event, UserError):
                raise undecodable(event, upload.path)
            if isinstance(event, Exception):
                log.error("%s: a file failed: %r", wish.model.name, event)
                raise model_failed()
            yield event
            if isinstance(event, Transcript):
                return
    finally:
        job.cancel()


async def _last(events: AsyncIterator[list[Segment] | Transcript]) -> Transcript:
    async for event in events:
        if isinstance(event, Transcript):
            return event
    raise AssertionError


async def _unless_gone(http: HttpRequest, work: Any) -> Any:
    """The result of some work, or None where the client goes away before."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())  # all of its body was read
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


def _shaped(transcript: Transcript, wish: Wish) -> Response:
    if wish.format in TEXTS:
        media_type, write = TEXTS[wish.format]
        return Response(write(transcript), media_type=media_type)
    return JSONResponse(_content(transcript, wish))


def _content(transcript: Transcript, wish: Wish) -> dict[str, Any]:
    if wish.format == "verbose_json":
        return as_verbose(transcript, wish.model, wish.request.task, wish.granularities)
    return as_json(transcript)


async def _told(
    first: list[Segment] | Transcript, events: AsyncIterator[list[Segment] | Transcript], wish: Wish
) -> AsyncIterator[str]:
    """Server-sent events: a delta for each segment, the whole text at the end, an error where there is one."""
    told = 0
    try:
        event = first
        while True:
            segments = segments_of(event)[told:] if isinstance(event, Transcript) else event
            for segment in segments:
                if text := one_line(segment.text):
                    delta: dict[str, Any] = {"type": "transcript.text.delta", "delta": f" {text}" if told else text}
                    if wish.format == "verbose_json":
                        delta["segment"] = segment_json(told, segment, wish.model)
                        delta["words"] = [word_json(word) for word in segment.words or []]
                    told += 1
                    yield _event(delta)
            if isinstance(event, Transcript):
                done = _content(event, wish) if wish.format == "verbose_json" else {"text": text_of(event)}
                yield _event({"type": "transcript.text.done", **done})
                return
            event = await anext(events)
    except RequestError as error:
        yield _event(error.body)


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


class _EventStream(StreamingResponse):
    """Events as they come; whatever happens to the client, `stack` is closed at the end."""

    def __init__(self, content: AsyncIterator[str], stack: AsyncExitStack) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.stack.aclose()
