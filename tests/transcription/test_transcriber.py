"""Recordings to transcripts, with a model that only tells what it was given to hear."""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.audio.voice_activity import Regrouped, VoiceActivity
from s2s.audio.windows import Window
from s2s.decoding.alignment import Word
from s2s.decoding.hypothesis import UtteranceError
from s2s.errors import UserError
from s2s.transcription.recording import Recording
from s2s.transcription.request import Request
from s2s.transcription.transcriber import Transcriber, stitch
from s2s.transcription.transcript import Segment, Transcript

RATE, FRAME = 2000, 128


class LoudIsSpeech:
    """A detector for which everything but zeros is speech."""

    sampling_rate, frame_samples = RATE, FRAME

    def __init__(self, sampling_rate: int = RATE) -> None:
        self.rest = Regrouped(FRAME)

    def feed(self, samples: Tensor) -> Tensor:
        return torch.tensor([float(group.abs().max() > 0) for group in self.rest.feed(samples)])

    def finish(self) -> Tensor:
        rest = self.rest.finish()
        return torch.tensor([float(rest.abs().max() > 0)] if len(rest) else [])


@pytest.fixture(autouse=True, scope="module")
def detector() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2s.transcription.transcriber.best_detector", LoudIsSpeech)
        yield


class Listener(Transcriber):
    """Hears the loudest sample of a window, which is the number of the recording, in `languages` of its own."""

    max_window = 3.0

    def __init__(self, at_once: int = 16, broken: Sequence[int] = (), kind: type[UserError] = UserError) -> None:
        self.at_once, self.broken, self.kind = at_once, broken, kind
        self.asked: list[list[tuple[int, float, str | None]]] = []  # of each call: recording, start, language

    @property
    def sampling_rate(self) -> int:
        return RATE

    def hear(self, windows: Sequence[Window], request: Request, languages: Sequence[str | None]) -> list[Transcript]:
        numbers = [round(float(window.samples.max())) for window in windows]
        starts = [window.start for window in windows]
        self.asked.append(list(zip(numbers, starts, languages, strict=True)))
        for i, number in enumerate(numbers):
            if number in self.broken:
                raise UtteranceError(i, "cannot be heard") if self.kind is UtteranceError else UserError("is not heard")
        return [
            self.transcript(number, window, language)
            for number, window, language in zip(numbers, windows, languages, strict=True)
        ]

    def transcript(self, number: int, window: Window, language: str | None) -> Transcript:
        end = window.start + len(window.samples) / RATE
        middle = (window.start + end) / 2
        words = [Word("a", window.start, middle), Word("b", middle, end)]
        segments = [Segment(window.start, end, f"{number}", words)]
        # What the first window is in, the others are not.
        return Transcript(
            f"{number}",
            -1.0,
            end - window.start,
            {"x": -2.0},
            words,
            None,
            [],
            segments,
            language or f"l{window.start:.0f}",
        )


def spoken(number: int, stretches: Sequence[tuple[float, float]]) -> Tensor:
    """Stretches of (speech, silence) in seconds; speech is the number over and over."""
    parts = [
        torch.cat((torch.full((round(a * RATE),), float(number)), torch.zeros(round(b * RATE)))) for a, b in stretches
    ]
    return torch.cat([torch.zeros(0), *parts])


def recording(number: int, samples: Tensor, block: int = RATE, breaks_after: int | None = None) -> Recording:
    def blocks(rate: int) -> Iterator[Tensor]:
        assert rate == RATE
        for i, part in enumerate(samples.split(block)):
            if i == breaks_after:
                raise UserError(f"r{number}: is broken")
            yield part

    return Recording(f"r{number}", blocks)


def results(listener: Transcriber, *asked: Any) -> Iterator[Transcript | UserError]:
    return (event for event in listener.events(*asked) if not isinstance(event, list))


def shown(result: Transcript | UserError) -> object:
    return str(result) if isinstance(result, UserError) else result


PATTERNS = st.lists(
    st.tuples(st.floats(0.2, 4.0), st.floats(0.0, 3.0)), max_size=4
)  # speech of one stretch may be longer than a window


@given(
    patterns=st.lists(PATTERNS, min_size=1, max_size=6),
    at_once=st.integers(1, 6),
    kind=st.sampled_from([UserError, UtteranceError]),
    language=st.sampled_from([None, "de"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_results_are_in_order_and_those_of_each_recording_alone(
    patterns: list[list[tuple[float, float]]], at_once: int, kind: type[UserError], language: str | None, seed: int
) -> None:
    chance = random.Random(seed)
    broken = [number for number in range(1, len(patterns) + 1) if chance.random() < 0.2]
    sources, heard = [], []
    for number, pattern in enumerate(patterns, start=1):
        samples, block = spoken(number, pattern), chance.choice([300, 2000, 9000])
        breaks = chance.randrange(4) if chance.random() < 0.2 else None
        sources.append(recording(number, samples, block, breaks))
        heard.append(len(samples) if breaks is None else min(len(samples), breaks * block))
    told: list[float] = []
    request = Request(language=language)
    found, early = [], []
    for event in Listener(at_once, broken, kind).events(iter(sources), request, told.append):
        if isinstance(event, list):
            early += event
        else:
            found.append(event)
            assert isinstance(event, UserError) or event.segments[: len(early)] == early
            early = []
    expected = [next(results(Listener(1, broken, kind), [source], request)) for source in sources]
    assert list(map(shown, found)) == list(map(shown, expected))
    assert sum(told) == pytest.approx(sum(heard) / RATE)
    for number, (result, size) in enumerate(zip(found, heard, strict=True), start=1):
        if isinstance(result, UserError):
            assert str(result).startswith(f"r{number}: ")
        else:
            assert set(result.text.split()) <= {str(number)}
            assert result.seconds == pytest.approx(size / RATE)
            times = [time for segment in result.segments for time in (segment.start, segment.end)]
            times_of_words = [time for word in result.words or [] for time in (word.start, word.end)]
            for series in (times, times_of_words):
                assert all(a <= b + 1e-9 for a, b in pairwise([0.0, *series, result.seconds]))


def test_all_speech_of_a_long_recording_is_heard_once() -> None:
    samples = spoken(7, [(2.5, 1.0), (8.0, 6.0), (1.0, 0.5)])
    listener = Listener()
    result = next(results(listener, [recording(7, samples)], Request(language="de")))
    assert isinstance(result, Transcript)
    assert result.seconds == pytest.approx(19.0)
    spans = [(segment.start, segment.end) for segment in result.segments]
    heard = torch.zeros(len(samples))
    for start, end in spans:
        heard[round(start * RATE) : round(end * RATE)] += 1
    assert heard[samples > 0].eq(1).all()
    assert heard.max() == 1
    assert max(end - start for start, end in spans) <= Listener.max_window + 1e-9
    assert result.text == " ".join(["7"] * len(spans))
    assert result.score == -len(spans)
    assert result.scores == {"x": -2.0 * len(spans)}


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_the_language_of_the_first_window_is_that_of_its_recording(at_once: int) -> None:
    listener = Listener(at_once)
    sources = [recording(n, spoken(n, [(2.0, 6.0), (2.0, 6.0), (2.0, 1.0)])) for n in (1, 2)]
    found = list(results(listener, sources, Request()))
    for number, result in enumerate(found, start=1):
        asked = [language for call in listener.asked for n, _, language in call if n == number]
        assert asked == [None, "l0", "l0"]
        assert isinstance(result, Transcript)
        assert result.language == "l0"
    if at_once == 16:
        assert [len(call) for call in listener.asked] == [2, 2, 2]  # the first of both, then the others
    listener = Listener(at_once)
    list(results(listener, sources, Request(language="de")))
    assert {language for call in listener.asked for *_, language in call} == {"de"}


@pytest.mark.parametrize(
    ("at_once", "read"), [(1, [1, 2, 3, 4, 5, 6]), (3, [3, 3, 3, 6, 6, 6]), (9, [4, 4, 4, 4, 6, 6])]
)
def test_recordings_are_read_no_sooner_than_there_is_place_for_them(at_once: int, read: list[int]) -> None:
    opened: list[int] = []

    def sources() -> Iterator[Recording]:
        for number in range(1, 7):
            opened.append(number)
            yield recording(number, spoken(number, [(1.0, 0.0)]))

    found = []
    for result in results(Listener(at_once), sources(), Request()):
        assert isinstance(result, Transcript)
        found.append((int(result.text), len(opened)))
    assert found == list(enumerate(read, start=1))


def test_the_first_segments_are_known_long_before_a_recording_is_read() -> None:
    read = 0

    def blocks(rate: int) -> Iterator[Tensor]:
        nonlocal read
        for part in spoken(1, [(2.0, 6.0)] * 50).split(RATE):
            read += 1
            yield part

    segments = Listener(at_once=32).segments(Recording("long", blocks), Request(language="de"))
    first = next(segments)
    assert (first.start, read < 50) == (0.0, True)
    rest = list(segments)
    assert len(rest) == 49
    assert first.end <= rest[0].start
    with pytest.raises(UserError, match="r2: is broken"):
        next(Listener().segments(recording(2, spoken(2, [(1.0, 0.0)]), breaks_after=0)))


def test_silence_is_passed_over_at_once() -> None:
    opened: list[int] = []

    def sources() -> Iterator[Recording]:
        for number in (0, 0, 1):  # of zeros there is no speech
            opened.append(number)
            yield recording(number, torch.full((20 * RATE,), float(number)))

    found = results(Listener(), sources(), Request())
    first = next(found)
    assert first == Transcript("", 0, 20.0)
    assert opened == [0]
    assert [isinstance(result, Transcript) for result in found] == [True, True]


def test_an_hour_is_heard_in_bounded_memory() -> None:
    seconds, alive, most = 3600, 0, 0
    generator = random.Random(0)

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def blocks(rate: int) -> Iterator[Tensor]:
        nonlocal alive, most
        for _ in range(seconds):
            block = torch.full((rate,), 1.0 if generator.random() < 0.8 else 0.0)
            alive += 1
            most = max(most, alive)
            weakref.finalize(block, gone)
            yield block
            del block

    told: list[float] = []
    listener = Listener(at_once=4)
    listener.max_window = 30.0  # type: ignore[misc]
    result = next(results(listener, [Recording("hour", blocks)], Request(), told.append))
    assert isinstance(result, Transcript)
    assert result.seconds == sum(told) == seconds
    assert len(result.segments) > seconds / 40
    assert max(map(len, listener.asked)) == 4
    assert most < 3 * 30


def test_what_was_read_of_a_recording_that_breaks_is_not_heard() -> None:
    listener = Listener()
    samples = spoken(1, [(2.0, 6.0)] * 3)
    found = list(results(listener, [recording(1, samples, breaks_after=20), recording(2, samples * 2)], Request()))
    assert [shown(found[0])] == ["r1: is broken"]
    assert isinstance(found[1], Transcript)
    assert {number for call in listener.asked for number, *_ in call} == {2}


def test_a_window_that_cannot_be_heard_names_its_recording_and_stops_no_other() -> None:
    listener = Listener(broken=[2])
    sources = [recording(n, spoken(n, [(1.0, 0.0)])) for n in (1, 2, 3)]
    found = list(results(listener, sources, Request()))
    assert [shown(result) for result in found][1] == "r2: is not heard"
    assert [result.text for result in found if isinstance(result, Transcript)] == ["1", "3"]


def test_what_a_short_recording_lacks_is_said_with_its_name() -> None:
    class Strict(Listener):
        def has_speech(self, window: Window, detector: VoiceActivity) -> bool:
            if len(window.samples) < 100:
                raise UserError("is too short")
            return bool(window.samples.max() > 1)

    sources = [recording(n, spoken(n, [(s, 0.0)])) for n, s in ((1, 1.0), (2, 0.01), (3, 1.0))]
    found = list(results(Strict(), sources, Request()))
    assert found[0] == Transcript("", 0, 1.0)
    assert str(found[1]) == "r2: is too short"
    assert isinstance(found[2], Transcript)
    assert found[2].text == "3"


def test_samples_and_recordings_are_transcribed_until_one_cannot_be() -> None:
    listener = Listener(broken=[3])
    alike = torch.full((RATE,), 1.0)
    assert [t.text for t in listener.transcribe([alike, alike.clone(), spoken(2, [(1.0, 0.0)])])] == ["1", "1", "2"]
    assert [t.text for t in listener.transcribe(alike.numpy())] == ["1"]
    results = Listener(1, broken=[3]).transcribe([alike, spoken(3, [(1.0, 0.0)]), alike])
    assert next(results).text == "1"
    with pytest.raises(UserError, match=r"the array of samples: is not heard"):
        next(results)


def test_the_options_of_a_transcription_reach_the_model() -> None:
    requests = []

    class Keeping(Listener):
        def check(self, request: Request) -> Request:
            requests.append(request)
            return Request(language="fr")

    listener = Keeping()
    options = {
        "language": "de",
        "task": "translate",
        "initial_prompt": "x",
        "word_timestamps": True,
        "sequential": True,
    }
    next(listener.transcribe(torch.ones(RATE), **options))  # type: ignore[arg-type]
    assert requests == [Request("de", "translate", "x", True, True)]
    assert listener.asked[0][0][2] == "fr"


def test_parts_are_stitched() -> None:
    one = Transcript("a", -1.0, 2.0, {"x": -1.0}, [Word("a", 0, 1)], segments=[Segment(0, 1, "a")], language="en")
    two = Transcript("", -0.5, 2.0, {"x": -2.0, "y": -3.0})
    three = Transcript("b", -2.0, 2.0, words=[Word("b", 3, 4)], segments=[Segment(3, 4, "b")], language="de")
    whole = stitch([one, two, three], 5.0, None)
    assert (whole.text, whole.score, whole.seconds, whole.language) == ("a b", -3.5, 5.0, "en")
    assert whole.scores == {"x": -3.0, "y": -3.0}
    assert whole.words == [Word("a", 0, 1), Word("b", 3, 4)]
    assert [segment.text for segment in whole.segments] == ["a", "b"]
    assert stitch([two, two], 5.0, "").words is None
    assert stitch([two, two], 5.0, "").language is None
    assert stitch([], 5.0, "de") == Transcript("", 0, 5.0, language="de")
    assert stitch([one], 9.0) == Transcript(**{**vars(one), "seconds": 9.0})
