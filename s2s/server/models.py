"""The models of a server, each with what it can do, its files and its live sessions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from s2s.api import load, streamer_of
from s2s.decoding.config import DecodingConfig
from s2s.decoding.streaming.policies import POLICIES
from s2s.errors import UserError, nearest
from s2s.server.errors import RequestError
from s2s.server.files import FileJob, SharedModel
from s2s.server.live import LiveModel
from s2s.server.metrics import Metrics
from s2s.server.settings import ServerSettings
from s2s.streaming.hybrid import ChunkStreamer
from s2s.streaming.session import Streamer
from s2s.streaming.settings import StreamSettings
from s2s.tokenizers.prompts import PromptTokens
from s2s.tokenizers.whisper import LANGUAGES, WhisperTokenizer
from s2s.transcription.hybrid import HybridTranscriber
from s2s.transcription.transcriber import Transcriber
from s2s.transcription.whisper import WhisperTranscriber

ALIAS = "whisper-1"  # the name that every client of OpenAI's knows: the first model here
CHUNKS = (0.16, 0.32, 0.64, 1.28)  # seconds, of encoders that hear chunks; others hear all anew
STEPS = (0.5, 1.0, 2.0)
SHORTEST, LONGEST = 0.1, 10.0
DECODINGS = ("ctc_prefix", "ctc_greedy", "rescoring", "joint", "segmental", "monotonic")


@dataclass(frozen=True)
class StreamRequest:
    """How a live session is to be heard; None: as the model does it by default."""

    chunk: float | None = None
    decoding: str | None = None
    policy: str | None = None
    language: str | None = None
    task: str = "transcribe"


class ServedModel:
    """One model: `files` hears recordings, `live` sessions, both with the same weights."""

    def __init__(
        self,
        name: str,
        transcriber: Transcriber,
        settings: ServerSettings,
        metrics: Metrics,
        stream_settings: StreamSettings | None = None,
    ) -> None:
        assert isinstance(transcriber, HybridTranscriber | WhisperTranscriber)
        self.name, self.transcriber, self.tokenizer = name, transcriber, transcriber.bundle.tokenizer
        self.stream_settings = stream_settings or StreamSettings()
        self._streamers: WeakValueDictionary[StreamRequest, Streamer] = WeakValueDictionary()
        self._lock = threading.Lock()
        self.description = self._describe()
        self.files = SharedModel(name, transcriber, settings, metrics)
        self.live = LiveModel(name, settings, metrics)

    def job(self) -> FileJob:
        """A transcriber for one request."""
        return FileJob(self.files)

    def stop(self) -> None:
        """End its threads."""
        self.files.stop()
        self.live.stop()

    def streamer(self, request: StreamRequest) -> Streamer:
        """The streamer of all sessions that ask for the same; UserError for what the model cannot do."""
        if request.chunk is not None and not SHORTEST <= request.chunk <= LONGEST:
            raise UserError(f"chunk={request.chunk:g}: expected {SHORTEST:g} to {LONGEST:g} seconds")
        with self._lock:
            streamer = self._streamers.get(request)
            if streamer is None:
                streamer = self._streamers[request] = self._build(request)
            return streamer

    def _build(self, request: StreamRequest) -> Streamer:
        settings = self.stream_settings
        if request.decoding is not None:
            if request.decoding not in DECODINGS:
                expected = ", ".join(self.description["decodings"]) or "none for this model, which has policies"
                raise UserError(f"decoding={request.decoding}: expected {expected}")
            named = StreamSettings.of(request.decoding, None, [])
            settings = replace(settings, decoding=named.decoding)
        if request.policy is not None:
            settings = replace(settings, policy=request.policy)
        return streamer_of(
            self.transcriber, settings, request.chunk, language=request.language or None, task=request.task
        )

    def _describe(self) -> dict[str, Any]:
        """What the model can do, as the page and programs read it."""
        codes: Sequence[str] = ()
        if isinstance(self.tokenizer, WhisperTokenizer):
            codes = list(self.tokenizer.languages) if self.tokenizer.is_multilingual else ()
        elif prompts := self.prompts:
            codes = list(prompts.languages)
        language = codes[0] if self.prompts else None  # such a model has to be told
        chunked = isinstance(self._build(StreamRequest(language=language)), ChunkStreamer)
        ways = {name: StreamRequest(decoding=name, language=language) for name in DECODINGS if chunked}
        policies = {name: StreamRequest(policy=name, language=language) for name in POLICIES if not chunked}
        return {
            "hears": "chunks" if chunked else "anew",
            "chunks": list(CHUNKS if chunked else STEPS),
            "chunk": 0.64 if chunked else 1.0,
            "decodings": [name for name, request in ways.items() if self._can(request)],
            "policies": [name for name, request in policies.items() if self._can(request)],
            "languages": {code: LANGUAGES.get(code, code) for code in codes},
            "detects": bool(codes) and not self.prompts,
            "tasks": ["transcribe", "translate"] if codes and not self.prompts else ["transcribe"],
            "sampling_rate": self.transcriber.sampling_rate,
        }

    def _can(self, request: StreamRequest) -> bool:
        try:
            self._build(request)
        except UserError:
            return False
        return True

    @property
    def prompts(self) -> PromptTokens | None:
        """Of a model of one's own that has to be told what is spoken and what to write."""
        return self.transcriber.prompts if isinstance(self.transcriber, HybridTranscriber) else None

    @property
    def language(self) -> str | None:
        """What it writes, where it knows one language only and says so."""
        return "en" if isinstance(self.tokenizer, WhisperTokenizer) and not self.tokenizer.is_multilingual else None


class Models(Mapping[str, ServedModel]):
    """The models by name; the first is that of `ALIAS`, too."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    def __getitem__(self, name: str) -> ServedModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def first(self) -> ServedModel:
        return next(iter(self._models.values()))

    def named(self, name: str | None) -> ServedModel:
        """The model that a client asks for; None: the first. Raises RequestError (404) for an unknown one."""
        if name is None or (name == ALIAS and name not in self._models):
            return self.first
        if name not in self._models:
            message = f"model '{name[:100]}': expected {' or '.join(self._models)}.{nearest(name[:100], self._models)}"
            raise RequestError(404, "model_not_found", message, "model")
        return self._models[name]

    def stop(self) -> None:
        """End the threads of all."""
        for model in self._models.values():
            model.stop()


def named_models(given: Sequence[str]) -> dict[str, str]:
    """Names and sources of `NAME=MODEL` or `MODEL`, whose name is its own or its folder's; UserError for two alike."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, source = each.partition("=")
        if not equals or "/" in name or Path(each).exists():
            source = each
            path = Path(each).resolve()
            name = (path.parent.name if path.name == "bundle" else path.name) if Path(each).exists() else each
        if not name or not source:
            raise UserError(f"--model {each}: expected MODEL or NAME=MODEL")
        if name in found:
            raise UserError(f"--model {each}: there is a model named '{name}' already; give it a name (NAME=MODEL)")
        found[name] = source
    return found


@contextmanager
def serving(
    sources: Mapping[str, str],
    settings: ServerSettings,
    metrics: Metrics,
    decoding: DecodingConfig | None = None,
    stream_settings: StreamSettings | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Iterator[Models]:
    """The models, loaded; `decoding` is how files are searched. Their threads end with it."""
    models: list[ServedModel] = []
    try:
        for name, source in sources.items():
            transcriber = load(source, decoding, device, dtype)
            models.append(ServedModel(name, transcriber, settings, metrics, stream_settings))
        yield Models(models)
    finally:
        for model in models:
            model.stop()
