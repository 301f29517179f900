"""A step that fails, of sessions that are heard together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from toy_stream import RATE, sound, streaming_bundle

from s2s.api import streamer_of
from s2s.decoding.config import load_decoding_config
from s2s.streaming.session import Streamer, StreamSession
from s2s.streaming.settings import StreamSettings
from s2s.transcription.hybrid import HybridTranscriber

SAYING = replace(load_decoding_config(["decoding=joint"]), ctc_weight=0.9, beam_size=3)  # the decoder says nothing
WAYS = (
    {"decoding": "ctc_greedy"},
    {"decoding": "ctc_prefix"},
    {"decoding": "rescoring"},
    {"decoding": "joint"},
    {"policy": "local_agreement"},
    {"policy": "align_att"},
)


def told(sessions: list[StreamSession], feed: Any) -> list[list[tuple[str, str]]]:
    """All that several sessions say, heard together."""
    found: dict[StreamSession, list[tuple[str, str]]] = {session: [] for session in sessions}
    for seed, session in enumerate(sessions):
        session.push(sound(2.0 + seed / 2, seed))
        session.close()
    while events := feed(sessions):
        for session, new in events.items():
            found[session] += [(event.kind, event.text) for event in new]
    return list(found.values())


def again(streamer: Streamer) -> Any:
    """Steps until one does not fail."""

    def process(sessions: list[StreamSession]) -> Any:
        while True:
            with suppress(RuntimeError):
                return streamer.process(sessions)

    return process


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_sessions_are_as_before_and_go_on(way: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step fails at first, before the model has heard it or when it has."""
    bundle = streaming_bundle()
    overrides = ["decoding.ctc_weight=0.9"] if way.get("decoding") == "joint" else []
    settings = StreamSettings.of(way.get("decoding"), way.get("policy"), [*overrides, "endpoint.max_length=1.5"])
    streamer = streamer_of(HybridTranscriber(bundle, SAYING), settings, chunk=0.32)
    expected = told([streamer.session(RATE) for _ in range(3)], streamer.process)
    assert any(kind == "final" and text for events in expected for kind, text in events)
    name = "step" if "decoding" in way else "encode"
    hear, calls = getattr(bundle.model, name), []

    def fails(*arguments: Any, **named: Any) -> Any:
        calls.append(len(arguments[0]))
        if len(calls) % 4 == 1:
            raise RuntimeError("out of memory")
        found = hear(*arguments, **named)
        if len(calls) % 4 == 3:
            raise RuntimeError("out of memory")
        return found

    monkeypatch.setattr(bundle.model, name, fails)
    assert told([streamer.session(RATE) for _ in range(3)], again(streamer)) == expected
    assert len(calls) > 8


def test_the_search_too_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = streaming_bundle()
    streamer = streamer_of(HybridTranscriber(bundle), StreamSettings.of("ctc_prefix", None, []), chunk=0.32)
    expected = told([streamer.session(RATE) for _ in range(2)], streamer.process)
    finish, calls = streamer.search.finish, []  # type: ignore[attr-defined]

    def fails(state: Any) -> Any:
        calls.append(state)
        if len(calls) % 2:
            raise RuntimeError("out of memory")
        return finish(state)

    monkeypatch.setattr(streamer.search, "finish", fails)  # type: ignore[attr-defined]
    assert told([streamer.session(RATE) for _ in range(2)], again(streamer)) == expected
    assert calls
