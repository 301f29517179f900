"""A hybrid CTC/attention model, untrained, that hears windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_bundle

from s2s.audio.windows import Window
from s2s.data.batch import Batch
from s2s.decoding.config import DecodingConfig
from s2s.errors import UserError
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel
from s2s.tokenizers.base import SPACE
from s2s.transcription.hybrid import HybridTranscriber
from s2s.transcription.request import Request
from s2s.transcription.transcript import Transcript

RATE = 8000
FAST = DecodingConfig(beam_size=3, max_length=12, min_length=6)


def talkative() -> Bundle[HybridModel]:
    """A bundle whose outputs are peaked enough for hypotheses to differ clearly."""
    bundle = toy_bundle()
    with torch.no_grad():
        for out in (bundle.model.ctc.out, bundle.model.decoder.out):
            out.weight *= 20
            out.bias[bundle.tokenizer.pieces(range(bundle.tokenizer.vocab_size)).index(SPACE)] -= 5
    return bundle


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def windows(*seconds: float) -> list[Window]:
    return [Window(0.0, noise(s, i), [(0.0, s)]) for i, s in enumerate(seconds)]


def same(found: Transcript, expected: Transcript) -> None:
    assert found.text == expected.text
    assert found.score == pytest.approx(expected.score, rel=1e-4, abs=1e-3)
    assert found.words == expected.words
    assert found.seconds == expected.seconds


@given(
    seconds=st.lists(st.floats(0.05, 3.0), min_size=1, max_size=5),
    max_batch_seconds=st.sampled_from([0.01, 4.0, 40.0]),
    word_timestamps=st.booleans(),
)
@settings(max_examples=8)
def test_a_window_is_heard_the_same_alone_and_among_others(
    seconds: list[float], max_batch_seconds: float, word_timestamps: bool
) -> None:
    transcriber = HybridTranscriber(talkative(), replace(FAST, nbest=2, max_batch_seconds=max_batch_seconds))
    request = Request("", word_timestamps=word_timestamps)
    heard = windows(*seconds)
    found = transcriber.hear(heard, request, [""] * len(heard))
    assert len(found) == len(heard)
    for transcript, window in zip(found, heard, strict=True):
        expected = transcriber.hear([window], request, [""])[0]
        same(transcript, expected)
        assert len(transcript.alternatives) == 1
        same(transcript.alternatives[0], expected.alternatives[0])


def test_words_and_segments_have_times_from_the_start_of_the_recording() -> None:
    transcriber = HybridTranscriber(talkative(), FAST)
    samples = noise(2.0)
    plain, later = transcriber.hear(
        [Window(0.0, samples, [(0.0, 2.0)]), Window(5.0, samples, [(5.25, 6.0), (6.5, 7.0)])],
        Request("", word_timestamps=True),
        ["", ""],
    )
    assert plain.text.strip()
    assert plain.text == later.text
    assert plain.words is not None
    assert later.words is not None
    for name in ("start", "end"):
        times = [getattr(word, name) + 5.0 for word in plain.words]
        assert [getattr(word, name) for word in later.words] == pytest.approx(times)
    assert [(s.start, s.end, s.text) for s in plain.segments] == [(0.0, 2.0, plain.text)]
    assert [(s.start, s.end, s.text) for s in later.segments] == [(5.25, 7.0, later.text)]
    assert later.segments[0].words == later.words
    without = transcriber.hear([Window(0.0, samples, [(0.0, 2.0)])], Request(""), [""])[0]
    assert without.words is None
    assert without.segments[0].words is None


def test_a_text_of_nothing_has_no_segments() -> None:
    bundle = toy_bundle()
    with torch.no_grad():
        bundle.model.decoder.out.bias[bundle.tokenizer.pieces(range(bundle.tokenizer.vocab_size)).index(SPACE)] += 99
    for length in (1, 3):  # eos is forced; nothing but spaces
        decoding = DecodingConfig(beam_size=1, ctc_weight=0.0, max_length=length)
        found = HybridTranscriber(bundle, decoding).hear(windows(0.5), Request(""), [""])[0]
        assert found.text.strip() == ""
        assert found.segments == []


def test_a_long_recording_is_heard_in_windows_whose_times_go_on() -> None:
    transcriber = HybridTranscriber(talkative(), FAST)
    transcriber.max_window = 3.0  # type: ignore[misc]
    silence = torch.zeros(6 * RATE)
    samples = torch.cat([part for i in range(3) for part in (noise(1.5, i), silence)])
    found = next(transcriber.transcribe(samples, word_timestamps=True))
    assert found.seconds == pytest.approx(22.5)
    assert len(found.segments) == 3
    bounds = [time for segment in found.segments for time in (segment.start, segment.end)]
    assert all(a <= b for a, b in pairwise(bounds))
    assert found.words is not None
    times = [time for word in found.words for time in (word.start, word.end)]
    assert all(a <= b for a, b in pairwise(times))
    assert found.text == " ".join(segment.text for segment in found.segments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "de"}, r"language=de: this model knows one task and takes no prompt; leave it out"),
        ({"task": "translate"}, r"task=translate: this model knows one task"),
        ({"initial_prompt": "Hello"}, r"initial_prompt=Hello: this model"),
        ({"sequential": True}, r"sequential=True: this model"),
    ],
)
def test_what_only_whisper_can_do_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        next(HybridTranscriber(toy_bundle()).transcribe(noise(1.0), **options))  # type: ignore[arg-type]


def test_a_recording_shorter_than_a_frame_is_named_and_the_others_go_on() -> None:
    transcriber = HybridTranscriber(talkative(), FAST)
    found = list(transcriber.transcribe([noise(0.5), noise(0.6)]))
    assert len(found) == 2
    results = transcriber.transcribe([noise(0.5), noise(0.01)])
    next(results)
    with pytest.raises(UserError, match=r"the array of samples: 0\.010 s of audio are shorter than one frame"):
        next(results)


def test_weights_that_are_not_numbers_are_reported_with_the_recording() -> None:
    bundle = talkative()
    with torch.no_grad():
        bundle.model.decoder.out.bias[5] = float("nan")
    with pytest.raises(UserError, match=r"the array of samples: the model's output is not a number"):
        next(HybridTranscriber(bundle, FAST).transcribe(noise(0.5)))


def test_batches_of_features_give_what_their_waveforms_give() -> None:
    bundle = talkative()
    transcriber = HybridTranscriber(bundle, replace(FAST, batch_size=2))
    seconds = [0.5, 1.0, 0.7, 0.3]

    def batches() -> Iterator[Batch]:
        for i in (0, 2):
            pair = [noise(s, n) for n, s in enumerate(seconds[i : i + 2], start=i)]
            lengths = torch.tensor([len(samples) for samples in pair])
            features, frames = bundle.features(torch.nn.utils.rnn.pad_sequence(pair, batch_first=True), lengths)
            nothing = torch.zeros(2, 0, dtype=torch.long)
            yield Batch([f"u{i}", f"u{i + 1}"], features, frames, nothing, torch.zeros(2), ["", ""], 1.5, [])

    found = dict(transcriber.transcribe_batches(batches()))
    assert sorted(found) == ["u0", "u1", "u2", "u3"]
    for n, s in enumerate(seconds):
        expected = transcriber.hear([Window(0.0, noise(s, n), [(0.0, s)])], Request(""), [""])[0]
        assert found[f"u{n}"].text == expected.text
        assert found[f"u{n}"].score == pytest.approx(expected.score, rel=1e-4, abs=1e-3)


def test_the_words_of_a_text_are_found_in_order_in_the_audio() -> None:
    transcriber = HybridTranscriber(toy_bundle())
    words = transcriber.align(noise(2.0), "two one two")
    assert [word.text for word in words] == ["two", "one", "two"]
    times = [time for word in words for time in (word.start, word.end)]
    assert all(a <= b for a, b in pairwise([0.0, *times, 2.0]))
    with pytest.raises(UserError, match=r"'six' has characters that the tokenizer lacks"):
        transcriber.align(noise(2.0), "six")
    with pytest.raises(UserError, match=r"the array of samples: .*"):
        transcriber.align(noise(0.1), "two one two")


def test_members_of_an_ensemble_must_fit_together() -> None:
    bundle, other = toy_bundle(), toy_bundle()
    assert len(HybridTranscriber(bundle, others={"x": other}).models) == 2
    other.features = type(other.features)(replace(other.features.config, frame_shift=0.02))  # type: ignore[call-arg, arg-type]
    with pytest.raises(UserError, match=r"decoding\.ensemble: x: its features are not those of the first bundle"):
        HybridTranscriber(bundle, others={"x": other})
