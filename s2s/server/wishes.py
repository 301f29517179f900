"""What a client of `POST /v1/audio/...` asks for, from the fields of its form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s2s.errors import UserError, nearest
from s2s.server.answers import FORMATS, GRANULARITIES
from s2s.server.errors import RequestError
from s2s.server.models import Models, ServedModel
from s2s.transcription.request import Request

SHARED = ("model", "prompt", "response_format", "temperature")
OF_TRANSCRIPTIONS = ("language", "stream", "timestamp_granularities", "chunking_strategy")
STREAMED = ("json", "text", "verbose_json")


@dataclass(frozen=True)
class Wish:
    """A model, what it is asked, and the shape of the answer."""

    model: ServedModel
    request: Request
    format: str = "json"
    granularities: tuple[str, ...] = ("segment",)
    stream: bool = False


def read_wish(fields: Mapping[str, Sequence[str]], models: Models, task: str) -> Wish:
    """The wish that form fields tell of; RequestError for a field or a value that is not known, or cannot be done."""
    given = {name.removesuffix("[]"): values for name, values in fields.items()}
    known = (*SHARED, *(OF_TRANSCRIPTIONS if task == "transcribe" else ()))
    for name, values in given.items():
        if name not in known:
            raise _wrong(name[:100], f"is not known here; expected {', '.join(known)}.{nearest(name[:100], known)}")
        if len(values) > 1 and name != "timestamp_granularities":
            raise _wrong(name, "is given twice; give it once")
    one = {name: values[0] for name, values in given.items()}
    model = models.named(one.get("model"))
    shape = _choice("response_format", one.get("response_format", "json"), FORMATS)
    stream = _choice("stream", one.get("stream", "false").lower(), ("true", "false")) == "true"
    if stream and shape not in STREAMED:
        raise _wrong("response_format", f"'{shape}' cannot be streamed; expected {', '.join(STREAMED)}")
    _choice("chunking_strategy", one.get("chunking_strategy", "auto"), ("auto",))
    granularities = tuple(given.get("timestamp_granularities", ()))
    for each in granularities:
        _choice("timestamp_granularities", each, GRANULARITIES)
    if granularities and shape != "verbose_json":
        raise _wrong("timestamp_granularities", "is for response_format=verbose_json; leave it out, or ask for that")
    try:
        temperature = float(one.get("temperature", "0"))
    except ValueError:
        temperature = -1.0
    if temperature != 0.0:
        raise _wrong("temperature", "the best text is searched for, nothing is drawn; leave it out, or give 0")
    try:
        request = Request(one.get("language") or None, task, one.get("prompt") or None, "word" in granularities)
        if task == "translate" and model.prompts:
            request = replace(request, target_language="en")
        model.transcriber.check(request)
    except UserError as error:
        raise RequestError(400, "invalid_value", str(error)) from error
    return Wish(model, request, shape, granularities or ("segment",), stream)


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise _wrong(name, f"'{value[:100]}': expected {' or '.join(choices)}.{nearest(value[:100], choices)}")
    return value


def _wrong(name: str, problem: str) -> RequestError:
    return RequestError(400, "invalid_value", f"{name}: {problem}", name)
