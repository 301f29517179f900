"""Files over HTTP: what is refused and how, and that nothing of a request stays or reaches the file system."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import soundfile
import torch
from toy_server import GREEDY, Running, pcm, running, wait_for, wav
from toy_stream import RATE, sound

from s2s.api import load
from s2s.server.settings import ServerSettings
from s2s.transcription.subtitles import one_line


def text_of(bundle: Path, data: bytes, tmp_path: Path) -> str:
    """What `s2s transcribe` writes of a file."""
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    return one_line(next(load(bundle, GREEDY).transcribe(path)).text)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "AIFF", "RF64", "CAF", "AU"])
def test_a_file_of_any_kind_is_written_down(served: Running, bundle: Path, tmp_path: Path, kind: str) -> None:
    packed = io.BytesIO()
    soundfile.write(packed, sound(2.0).numpy(), RATE, format=kind)
    answer = served.post(packed.getvalue())
    assert answer.status_code == 200
    assert answer.json()["text"] == text_of(bundle, packed.getvalue(), tmp_path) != ""
    assert answer.json()["usage"] == {"type": "duration", "seconds": 2.0}
    served.wait_until_idle()


@pytest.mark.parametrize(
    ("data", "status", "code", "message"),
    [
        (None, 400, "missing_file", "expected a file"),
        (b"", 422, "invalid_audio", "is empty"),
        (b"#EXTM3U\nfile:///etc/passwd\n", 415, "unsupported_media_type", "does not begin as audio does"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", 415, "unsupported_media_type", "does not begin as audio does"),
        (b"RIFF" + b"\0" * 100, 422, "invalid_audio", "cannot be read as audio"),
        (b"ID3" + b"\xff" * 4000, 422, "invalid_audio", "the file"),
        (wav(pcm(1.0))[:5000], 422, "invalid_audio", "is cut short"),
        (wav(b""), 422, "invalid_audio", "holds no samples"),
        (wav(pcm(0.001)), 422, "invalid_audio", "shorter than one frame"),
    ],
)
def test_what_is_no_audio_is_refused_and_says_why(
    served: Running, data: bytes | None, status: int, code: str, message: str
) -> None:
    answer = served.post(data, **({} if data is not None else {"model": "toy"}))
    if data is None:
        answer = httpx.post(f"{served.url}/v1/audio/transcriptions", files={"other": ("a", b"RIFF")}, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert message in error["message"]
    assert str(served.server.state.folder) not in answer.text
    served.wait_until_idle()


def test_a_zip_is_no_audio(served: Running) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.wav", wav(pcm(1.0)))
    assert served.post(packed.getvalue()).status_code == 415


@pytest.mark.parametrize(
    ("fields", "status", "param", "message"),
    [
        ({"model": "other"}, 404, "model", "expected toy"),
        ({"model": "/etc/passwd"}, 404, "model", "expected toy"),
        ({"response_format": "xml"}, 400, "response_format", "expected json or verbose_json"),
        ({"response_format": "diarized_json"}, 400, "response_format", "expected json"),
        ({"stream": "true", "response_format": "srt"}, 400, "response_format", "cannot be streamed"),
        ({"stream": "maybe"}, 400, "stream", "expected true or false"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities", "verbose_json"),
        (
            {"timestamp_granularities[]": "syllable", "response_format": "verbose_json"},
            400,
            "timestamp_granularities",
            "expected segment or word",
        ),
        ({"temperature": "0.7"}, 400, "temperature", "leave it out"),
        ({"temperature": "warm"}, 400, "temperature", "leave it out"),
        ({"langauge": "de"}, 400, "langauge", "Did you mean 'language'?"),
        ({"include[]": "logprobs"}, 400, "include", "is not known here"),
        ({"language": "de"}, 400, None, "this model knows one task"),
        ({"prompt": "x"}, 400, None, "this model knows one task"),
    ],
)
def test_fields_that_make_no_sense_are_named(
    served: Running, fields: dict[str, str], status: int, param: str | None, message: str
) -> None:
    answer = served.post(wav(pcm(1.0)), **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert message in error["message"]
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_a_body_that_is_no_form_is_refused(served: Running) -> None:
    url = f"{served.url}/v1/audio/transcriptions"
    assert httpx.post(url, json={"file": "/etc/passwd"}).status_code == 415
    assert httpx.post(url, content=b"x", headers={"content-type": "multipart/form-data"}).status_code == 400
    bad = {"content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(url, content=b"--c\r\n\r\n", headers=bad)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_form")
    many = "".join(f'--b\r\nContent-Disposition: form-data; name="f{i}"\r\n\r\nx\r\n' for i in range(100))
    assert httpx.post(url, content=many.encode() + b"--b--\r\n", headers=bad).status_code == 400
    assert httpx.get(url).status_code == 405
    assert httpx.post(f"{served.url}/v1/chat/completions").json()["error"]["code"] == "not_found"


def test_too_much_is_refused_whether_it_says_so_or_not(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(max_upload_bytes=100_000)) as served:
        url = f"{served.url}/v1/audio/transcriptions"
        large = wav(pcm(20.0))
        assert served.post(large).status_code == 413

        def chunks() -> object:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
            for start in range(0, len(large), 10_000):
                yield large[start : start + 10_000]

        answer = httpx.post(url, content=chunks(), headers={"content-type": "multipart/form-data; boundary=b"})  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        served.wait_until_idle()
        assert served.post(wav(pcm(1.0))).status_code == 200


def test_a_recording_that_is_too_long_is_refused(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(max_file_seconds=3.0)) as served:
        assert served.post(wav(pcm(3.0))).status_code == 200
        answer = served.post(wav(pcm(3.1)))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long")


def test_an_upload_that_stops_is_not_waited_for(bundle: Path) -> None:
    with running({"toy": str(bundle)}, ServerSettings(idle_seconds=0.3)) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            )
            assert b" 408 " in client.recv(1000).split(b"\r\n")[0]
        served.wait_until_idle()


def test_a_client_that_goes_away_frees_its_place(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it sends, and while the model is at work for it."""
    body = httpx.Request("POST", f"{served.url}/", files={"file": ("a.wav", wav(pcm(25.0)))})
    data, kind = body.read(), body.headers["content-type"]
    own = (f"Content-Type: {kind}", f"Content-Length: {len(data)}")
    lines = ("POST /v1/audio/transcriptions HTTP/1.1", "Host: a", *own)
    head = "".join(f"{line}\r\n" for line in (*lines, ""))
    for sent in (len(data) // 2, len(data)):
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(head.encode() + data[:sent])
            wait_for(lambda: served.server.state.num_requests == 1)
        served.wait_until_idle()


def test_a_model_that_fails_is_our_fault_and_only_of_its_own_client(
    served: Running, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = served.models.first.transcriber
    hear = model.hear

    def fails(windows, request, languages):  # type: ignore[no-untyped-def]
        if any(len(window.samples) == 2 * RATE for window in windows):
            raise RuntimeError("secret of the machine")
        return hear(windows, request, languages)

    monkeypatch.setattr(model, "hear", fails)
    inputs = [wav(pcm(1.0 + 0.5 * i, i)) for i in range(5)]
    with ThreadPoolExecutor(len(inputs)) as pool:
        answers = list(pool.map(served.post, inputs))
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 200]
    assert "secret" not in answers[2].text
    monkeypatch.undo()
    for i in (0, 1, 3, 4):
        assert answers[i].json()["text"] == text_of(bundle, inputs[i], tmp_path)
    served.wait_until_idle()


def test_files_of_many_clients_are_heard_together(
    served: Running, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = served.models.first.transcriber, []
    hear = model.hear
    inputs = [wav(pcm(1.0 + 0.2 * i, i)) for i in range(6)]
    state = served.models.first.files

    def slow(windows, request, languages):  # type: ignore[no-untyped-def]
        if not sizes:
            wait_for(lambda: len(state._waiting) == len(inputs) - len(windows))
        sizes.append(len(windows))
        return hear(windows, request, languages)

    monkeypatch.setattr(model, "hear", slow)
    with ThreadPoolExecutor(len(inputs)) as pool:
        answers = list(pool.map(served.post, inputs))
    assert sum(sizes) == len(inputs)
    assert len(sizes) <= 2  # what came while the first was heard is one batch
    assert [answer.json()["text"] for answer in answers] == [text_of(bundle, each, tmp_path) for each in inputs]


def test_a_short_file_does_not_wait_for_a_long_one(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of all files take turns."""
    with running({"toy": str(bundle)}, ServerSettings(batch_seconds=30.0)) as served:
        model, heard = served.models.first.transcriber, []
        hear, files = model.hear, served.models.first.files

        def slow(windows, request, languages):  # type: ignore[no-untyped-def]
            if not heard:
                wait_for(lambda: len(files._waiting) == 2)
            heard.append([round(len(window.samples) / RATE, 1) for window in windows])
            return hear(windows, request, languages)

        monkeypatch.setattr(model, "hear", slow)
        with ThreadPoolExecutor(2) as pool:
            long = pool.submit(served.post, wav(pcm(300.0)))
            wait_for(lambda: bool(files._waiting) or bool(heard))
            short = pool.submit(served.post, wav(pcm(1.0)))
            assert short.result().status_code == 200
            assert long.result().status_code == 200
        assert next(i for i, lengths in enumerate(heard) if 1.0 in lengths) <= 2
        assert all(sum(lengths) <= 30.0 or len(lengths) == 1 for lengths in heard)


def test_no_more_files_are_in_hand_than_allowed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running({"toy": str(bundle)}, ServerSettings(max_requests=2)) as served:
        model, state = served.models.first.transcriber, served.server.state
        hear = model.hear
        refused: list[int] = []

        def slow(windows, request, languages):  # type: ignore[no-untyped-def]
            wait_for(lambda: bool(refused))
            return hear(windows, request, languages)

        monkeypatch.setattr(model, "hear", slow)
        with ThreadPoolExecutor(2) as pool:
            two = [pool.submit(served.post, wav(pcm(1.0))) for _ in range(2)]
            wait_for(lambda: state.num_requests == 2)
            answer = served.post(wav(pcm(1.0)))
            refused.append(answer.status_code)
            assert [each.result().status_code for each in two] == [200, 200]
        assert refused == [429]
        assert answer.headers["Retry-After"]
        assert answer.json()["error"]["type"] == "rate_limit_error"


def test_long_files_are_streamed_as_they_are_heard(served: Running) -> None:
    data = wav(pcm(70.0))
    whole = served.post(data, response_format="verbose_json").json()
    options = {"stream": "true", "response_format": "verbose_json"}
    with httpx.stream(
        "POST",
        f"{served.url}/v1/audio/transcriptions",
        files={"file": ("a.wav", data)},
        data={**options, "timestamp_granularities[]": ["word", "segment"]},
        timeout=60,
    ) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert len(events) > 2
    *deltas, done = events
    assert "".join(event["delta"] for event in deltas) == done["text"] == whole["text"]
    assert [event["segment"]["start"] for event in deltas] == [each["start"] for each in whole["segments"]]
    assert [word for event in deltas for word in event["words"]] == done["words"]


def test_nothing_of_an_upload_is_left_on_disk(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a name of the client's used: `Running.post` calls its files ../../etc/passwd."""
    seen: list[Path] = []
    from s2s.server import uploads

    check = uploads.check_audio

    def noted(path: Path, settings: ServerSettings) -> None:
        seen.append(path)
        check(path, settings)

    monkeypatch.setattr("s2s.server.transcriptions.check_audio", noted)
    served.post(wav(pcm(1.0)))
    served.post(b"RIFF")
    assert len(seen) == 2
    folder = served.server.state.folder
    assert all(path.parent == folder and "passwd" not in path.name and not path.exists() for path in seen)
    assert torch.is_inference_mode_enabled() is False
