"""Files that clients send, on disk for as long as they are needed, under names of our own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from s2s.audio.read import audio_info, read_blocks
from s2s.errors import UserError
from s2s.server.errors import RequestError
from s2s.server.settings import MIB, ServerSettings
from s2s.transcription.recording import Recording

NAME = "the file"
MAX_FIELDS, MAX_FIELD_BYTES = 40, 64 << 10
# How files begin that are audio, or video with audio. Playlists are text: a decoder must not be led to other files.
_STARTS = (
    b"RIFF",
    b"RF64",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b"caff",
    b".snd",
    b"\x1a\x45\xdf\xa3",
    b"\x30\x26\xb2\x75",
)


@dataclass(frozen=True)
class Upload:
    """A file that was sent, and the fields of the form that it came in."""

    path: Path
    fields: dict[str, list[str]]


@asynccontextmanager
async def received(request: Request, folder: Path, settings: ServerSettings) -> AsyncIterator[Upload]:
    """What a request of the type multipart/form-data brings, its `file` in `folder` until the end of the context.

    Raises RequestError for another type (415), too much (413), a client that stops sending (408), no file (400).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise RequestError(415, "unsupported_media_type", "expected multipart/form-data with the audio as `file`")
    form = await _form(request, settings)
    handle, name = tempfile.mkstemp(dir=folder)
    path = Path(name)
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            os.close(handle)
            raise RequestError(400, "missing_file", "file: expected a file of audio", "file")
        await asyncio.to_thread(_copy, file.file, handle)
        await form.close()
        fields: dict[str, list[str]] = {}
        for key, value in form.multi_items():
            if isinstance(value, str):
                fields.setdefault(key, []).append(value)
        yield Upload(path, fields)
    finally:
        await form.close()
        path.unlink(missing_ok=True)


def _copy(source: BinaryIO, handle: int) -> None:
    with open(handle, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


async def _form(request: Request, settings: ServerSettings) -> FormData:
    """The form, its file in a temporary one without a name."""
    most = settings.max_upload_bytes
    too_large = RequestError(413, "too_large", f"more than {most / MIB:g} MiB; send less at once", "file")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most + MAX_FIELD_BYTES:
        raise too_large

    async def limited() -> AsyncIterator[bytes]:
        heard = 0
        stream = request.stream().__aiter__()
        while True:
            try:
                data = await asyncio.wait_for(stream.__anext__(), settings.idle_seconds)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError as error:
                problem = f"nothing came for {settings.idle_seconds:g} s; send the rest"
                raise RequestError(408, "idle", problem) from error
            heard += len(data)
            if heard > most + MAX_FIELD_BYTES:
                raise too_large
            yield data

    parser = MultiPartParser(
        request.headers,
        limited(),  # type: ignore[arg-type]
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise RequestError(400, "malformed_form", f"the form: {error.message}") from error
    except ClientDisconnect as error:
        raise RequestError(400, "disconnected", "the client went away") from error


def check_audio(path: Path, settings: ServerSettings) -> None:
    """Raise RequestError for a file that is no audio (415), cannot be decoded (422) or is too long (413)."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise RequestError(422, "invalid_audio", f"{NAME} is empty (0 bytes); record or fetch it again", "file")
    is_mpeg = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0  # a frame of MP3 or AAC
    if not (start.startswith(_STARTS) or is_mpeg or start[4:8] == b"ftyp"):
        expected = "expected wav, flac, ogg, opus, mp3, aiff, or, where ffmpeg is installed, mp4, m4a or webm"
        raise RequestError(415, "unsupported_media_type", f"{NAME} does not begin as audio does; {expected}", "file")
    try:
        info = audio_info(path)
    except UserError as error:
        raise undecodable(error, path) from error
    if info.duration > settings.max_file_seconds:
        raise _too_long(settings)


def recording(path: Path, settings: ServerSettings) -> Recording:
    """The audio of an upload; RequestError, when it is read, where it is longer than its header says and is allowed."""

    def blocks(rate: int) -> Iterator[Tensor]:
        heard = 0
        for block in read_blocks(path, rate):
            heard += len(block)
            if heard > settings.max_file_seconds * rate:
                raise _too_long(settings)
            yield block

    return Recording(NAME, blocks)


def undecodable(error: UserError, path: Path) -> RequestError:
    """What a client is told of a file that cannot be decoded: nothing of where it was."""
    return RequestError(422, "invalid_audio", str(error).replace(str(path), NAME), "file")


def _too_long(settings: ServerSettings) -> RequestError:
    most = f"{settings.max_file_seconds:g} s"
    return RequestError(413, "too_long", f"{NAME} is longer than {most}; send it in parts", "file")
