"""Live sessions over a real WebSocket."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from toy_server import Running, events_of, pcm, running, said, speak, texts
from toy_stream import RATE
from websockets.exceptions import InvalidStatus

from s2s.server.settings import ServerSettings

LONG = "decoding=ctc_greedy&chunk=0.16&sample_rate="


def test_a_session_says_what_one_in_this_process_says(served: Running, bundle: Path) -> None:
    data = pcm(2.6)
    with served.connect() as client:
        events = speak(client, data)
    assert events[0]["type"] == "ready"
    assert texts(events) == said(bundle, data)
    assert events[-1] == {"type": "end", "heard": 2.6}
    assert client.close_code == 1000
    finals = [event for event in events if event["type"] == "final"]
    assert finals
    assert finals[0]["text"]
    for event in events[1:-1]:
        assert " ".join(word["word"] for word in event["words"]) == event["text"]
        assert event["text"].startswith(event["stable"])
        assert event["latency"] >= 0
        assert event["end"] <= event["heard"] + 1e-6


@pytest.mark.parametrize("size", [2, 700, 1 << 19])
def test_the_size_of_messages_changes_nothing(served: Running, bundle: Path, size: int) -> None:
    data = pcm(0.8 if size == 2 else 4.0, 3)
    with served.connect() as client:
        events = speak(client, data, size)
    assert [text for kind, text in texts(events) if kind == "final"] == [
        text for kind, text in said(bundle, data) if kind == "final"
    ]


def test_many_at_once_each_say_their_own(served: Running, bundle: Path) -> None:
    inputs = [pcm(1.0 + 0.3 * i, i) for i in range(8)]
    options = ["ctc_greedy", "ctc_prefix"]

    def run(i: int) -> list[tuple[str, str]]:
        with served.connect(f"sample_rate={RATE}&chunk=0.16&decoding={options[i % 2]}") as client:
            return texts(speak(client, inputs[i]))

    with ThreadPoolExecutor(len(inputs)) as pool:
        found = list(pool.map(run, range(len(inputs))))
    assert found == [said(bundle, data, options[i % 2]) for i, data in enumerate(inputs)]
    served.wait_until_idle()
    assert served.metric("s2s_sessions") == 0
    assert served.metric("s2s_latency_seconds_count") > 0
    assert served.metric("s2s_audio_seconds_total") > 0


def test_other_rates_are_resampled(served: Running, bundle: Path) -> None:
    from s2s.api import load_stream
    from s2s.streaming.settings import StreamSettings

    samples = np.frombuffer(pcm(3.0), "<i2")
    session = load_stream(bundle, StreamSettings.of("ctc_greedy", None, []), chunk=0.16).session(44100)
    expected = session.feed(samples.astype(np.float32) / 32768) + session.finish()
    with served.connect(LONG + "44100") as client:
        events = speak(client, samples.tobytes())
    assert [text for kind, text in texts(events) if kind == "final"] == [
        event.text for event in expected if event.kind == "final"
    ]


@pytest.mark.parametrize(
    ("query", "status", "param", "message"),
    [
        ("sample_rate=7999", 400, "sample_rate", "expected 8000 to 96000 hertz"),
        ("sample_rate=1e4", 400, "sample_rate", "expected 8000 to 96000 hertz"),
        ("encoding=f32le", 400, "encoding", "expected s16le"),
        ("rate=16000", 400, "rate", "is not known here"),
        ("model=other", 404, "model", "expected toy"),
        ("decoding=beam", 400, None, "decoding=beam: expected ctc_prefix, ctc_greedy"),
        ("policy=hold", 400, None, "expected one of wait_k"),
        ("chunk=soon", 400, "chunk", "expected seconds"),
        ("chunk=0.001", 400, None, "expected 0.1 to 10 seconds"),
        ("chunk=nan", 400, None, "expected 0.1 to 10 seconds"),
        ("language=de", 400, None, "this model knows one task"),
        ("task=sing", 400, None, "expected transcribe or translate"),
    ],
)
def test_a_handshake_that_makes_no_sense_is_refused_by_name(
    served: Running, query: str, status: int, param: str | None, message: str
) -> None:
    with pytest.raises(InvalidStatus) as refused, served.connect(query):
        pass
    assert refused.value.response.status_code == status
    error = json.loads(refused.value.response.body)["error"]
    assert message in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize(
    ("message", "code", "close", "problem"),
    [
        (b"\0" * 801, "invalid_audio", 1007, "expected whole 16-bit samples"),
        (b"RIFF" + b"\0" * 44, "invalid_audio", 1007, "without a header"),
        ("{", "invalid_message", 1003, "expected samples as binary messages"),
        ('{"type": "start"}', "invalid_message", 1003, "expected samples as binary messages"),
        ("[" * 100_000, "invalid_message", 1003, "expected samples as binary messages"),
    ],
)
def test_a_malformed_message_ends_its_session_with_the_reason(
    served: Running, message: bytes | str, code: str, close: int, problem: str
) -> None:
    with served.connect() as client:
        client.send(message)
        events = events_of(client)
    assert [event["type"] for event in events] == ["ready", "error"]
    assert events[-1]["error"]["code"] == code
    assert problem in events[-1]["error"]["message"]
    assert client.close_code == close


def test_what_was_heard_before_a_malformed_message_is_told(served: Running, bundle: Path) -> None:
    data = pcm(2.0)
    with served.connect() as client:
        client.send(data)
        client.send(b"\0")
        events = events_of(client)
    assert texts(events)[-1] == said(bundle, data)[-1]
    assert events[-1]["type"] == "error"


def test_a_message_that_is_too_large_ends_its_session(served: Running) -> None:
    with served.connect() as client:
        client.send(b"\0" * (3 << 20))
        events_of(client)
    assert client.close_code == 1009
    served.wait_until_idle()


def test_one_who_sends_nothing_is_not_waited_for(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(idle_seconds=0.3)) as served:
        data = pcm(2.0)
        with served.connect() as client:
            client.send(data)
            events = events_of(client)
        assert texts(events)[-1] == said(bundle, data)[-1]
        assert events[-1]["error"]["code"] == "idle"
        assert client.close_code == 1008


def test_a_session_that_is_too_long_ends(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(max_session_seconds=2.0)) as served:
        data = pcm(2.0)
        with served.connect() as client:
            client.send(data)
            client.send(b"\0\0")
            events = events_of(client)
        assert texts(events)[-1] == said(bundle, data)[-1]
        assert events[-1]["error"]["code"] == "too_long"


def test_no_more_sessions_are_open_than_allowed(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(max_sessions=2)) as served:
        with served.connect(), served.connect(), pytest.raises(InvalidStatus) as refused, served.connect():
            pass
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"]
        served.wait_until_idle()
        with served.connect() as client:
            assert texts(speak(client, pcm(1.0))) == said(bundle, pcm(1.0))


def test_a_page_shows_its_token_as_a_subprotocol(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(token="geheim/ß".encode().hex())) as served:
        token = served.server.state.settings.token or ""
        hidden = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        for options in (
            {},
            {"subprotocols": ["s2s", "bearer.AAAA"]},
            {"additional_headers": {"Authorization": "Bearer x"}},
        ):
            with pytest.raises(InvalidStatus) as refused, served.connect(**options):
                pass
            assert refused.value.response.status_code == 401
        for options in (
            {"subprotocols": ["s2s", f"bearer.{hidden}"]},
            {"additional_headers": {"Authorization": f"Bearer {token}"}},
        ):
            with served.connect(**options) as client:
                assert texts(speak(client, pcm(1.0))) == said(bundle, pcm(1.0))


def test_pages_of_other_servers_are_refused(served: Running) -> None:
    for origin in ("https://example.org", "null", f"http://localhost:{served.port}"):
        with pytest.raises(InvalidStatus) as refused, served.connect(origin=origin):
            pass
        assert refused.value.response.status_code == 403
    with served.connect(origin=f"http://127.0.0.1:{served.port}") as client:
        assert speak(client, b"")[-1]["type"] == "end"
