"""Long recordings cut at silences into windows short enough to be transcribed at once, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain, groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from s2s.audio.voice_activity import FRAME, VoiceActivity
from s2s.errors import UserError

_DIP = 0.2  # seconds: a pause between words is longer than the closure of a stop


@dataclass(frozen=True)
class WindowConfig:
    """Options of `cut`, in seconds unless said otherwise.

    Attributes:
        max_window: most that a window holds.
        onset: probability from which on a frame begins a span of speech.
        offset: probability below which a frame of a span is silence; at most `onset`.
        min_silence: a span ends at a silence of this length; a shorter one is part of it.
        min_speech: a span that is shorter, its padding not counted, is none.
        padding: what a span takes of the silence on either side; at most half of `min_silence`, a third of a window.
        max_silence: a longer silence ends a window, a shorter one is kept where the speech after it fits too.

    Raises UserError where a value is out of its range.
    """

    max_window: float = 30.0
    onset: float = 0.4
    offset: float = 0.25
    min_silence: float = 0.8
    min_speech: float = 0.1
    padding: float = 0.4
    max_silence: float = 5.0

    def __post_init__(self) -> None:
        def check(holds: bool, name: str, expected: str) -> None:
            if not holds:
                raise UserError(f"windows: {name} is {getattr(self, name)}, expected {expected}")

        for field in fields(self):
            check(getattr(self, field.name) >= 0, field.name, "0 or more")
        check(1 <= self.max_window < math.inf, "max_window", "at least 1 s")
        check(self.onset <= 1, "onset", "0 to 1")
        check(self.offset <= self.onset, "offset", f"at most onset ({self.onset:g})")
        check(2 * self.padding <= self.min_silence, "padding", f"at most half of min_silence ({self.min_silence:g} s)")
        check(3 * self.padding <= self.max_window, "padding", f"at most a third of max_window ({self.max_window:g} s)")


@dataclass(frozen=True)
class Window:
    """A stretch of a recording: its start in seconds, its samples (n,), and where speech is in it.

    `speech` are spans (start, end) in seconds from the start of the recording, in order and inside the window.
    """

    start: float
    samples: Tensor
    speech: list[tuple[float, float]]


class Span(NamedTuple):
    """Frames from `start` on, up to `end`, which is the first after them."""

    start: int
    end: int


def whole(
    blocks: Iterable[Tensor], sampling_rate: int, max_window: float = WindowConfig.max_window
) -> tuple[Window | None, Iterator[Tensor]]:
    """A recording, in blocks (n,), as one window where it is no longer than `max_window` seconds; else all its blocks.

    The window comes with no blocks left; None where the recording is longer, or empty. Reads no more than it must.
    """
    blocks, read, count = iter(blocks), [], 0
    for block in blocks:
        read.append(block)
        count += len(block)
        if count > max_window * sampling_rate:
            return None, chain(read, blocks)
    if count == 0:
        return None, iter(())
    return Window(0.0, torch.cat(read), [(0.0, count / sampling_rate)]), iter(())


def cut(
    blocks: Iterable[Tensor], sampling_rate: int, detector: VoiceActivity, config: WindowConfig | None = None
) -> Iterator[Window]:
    """Windows of a recording that comes in blocks (n,) of any size, each as soon as it is known to end.

    Windows are in order and disjoint, none is longer than `max_window`, and all speech is in them: as many spans as
    fit, with the silences between them. A recording without speech has none. Held at once are the samples of at most
    two windows, one block, and those that the detector has not judged yet.
    """
    if detector.sampling_rate != sampling_rate:
        raise ValueError(f"the detector is for {detector.sampling_rate} Hz, the recording has {sampling_rate} Hz")
    step = detector.frame_samples
    finder, held = SpanFinder(config or WindowConfig(), step / sampling_rate), _Held()
    spans: list[Span] = []  # of the window that is being filled

    def window() -> Window:
        bounds = [(span.start * step, min(span.end * step, held.end)) for span in spans]
        samples = held.take(bounds[0][0], bounds[-1][1])
        spans.clear()
        speech = [(start / sampling_rate, end / sampling_rate) for start, end in bounds]
        return Window(speech[0][0], samples, speech)

    for block in chain(blocks, [None]):
        if block is None:
            found = finder.feed(detector.finish()) + finder.finish()
        else:
            held.append(block)
            found = finder.feed(detector.feed(block))
        for span in found:
            if spans and not finder.fit_together(spans[0], spans[-1], span):
                yield window()
            spans.append(span)
        if spans and (block is None or finder.are_apart(spans[-1].end, finder.needed)):
            yield window()
        held.drop((spans[0].start if spans else finder.needed) * step)


def speech_spans(
    probabilities: Tensor, config: WindowConfig | None = None, frame: float = FRAME
) -> list[tuple[float, float]]:
    """Spans of speech (start, end) in seconds, in order, of a recording's probabilities (T,), one each `frame` s.

    They are padded and disjoint; one that would be longer than `max_window` is cut as `cut` cuts it.
    """
    finder = SpanFinder(config or WindowConfig(), frame)
    return [(start * frame, end * frame) for start, end in finder.feed(probabilities) + finder.finish()]


class SpanFinder:
    """Spans of speech in frames, from probabilities that arrive in pieces; holds at most a window of them.

    A span begins at a frame with the probability `onset` and ends where `min_silence` is below `offset`. One longer
    than a window is cut in the last third of that, where its probability over 0.2 s is lowest: between words where
    there is any pause, and in the middle of that.
    """

    def __init__(self, config: WindowConfig, frame: float) -> None:
        def at_least(seconds: float) -> int:
            return math.ceil(seconds / frame - 1e-6)

        def at_most(seconds: float) -> int:
            return math.floor(seconds / frame + 1e-6)

        self._onset, self._offset = config.onset, config.offset
        self._min_silence, self._min_speech = max(1, at_least(config.min_silence)), at_least(config.min_speech)
        self._padding, self._max_silence = at_most(config.padding), at_most(config.max_silence)
        self._max_window = at_most(config.max_window)
        self._dip = at_most(_DIP / 2) * 2 + 1
        if self._max_window < 1:
            raise ValueError(f"a frame of {frame} s is longer than a window of {config.max_window} s")
        self._start()

    def _start(self) -> None:
        self._time = 0  # frames heard
        self._given = 0  # end of the last span given
        self._first: int | None = None  # first frame of the span that is open, without its padding
        self._last = 0  # end of its last frame of speech so far
        self._begin = 0  # its start, with padding; or where it was cut
        self._heard: list[float] = []  # probabilities from its first frame on, or from where it was cut

    @property
    def needed(self) -> int:
        """No span to come starts before this frame."""
        return max(self._given, self._time - self._padding) if self._first is None else self._begin

    def fit_together(self, first: Span, last: Span, new: Span) -> bool:
        """Whether a window from the span `first` to the span `last` may go on to the span `new`."""
        return new.end - first.start <= self._max_window and not self.are_apart(last.end, new.start)

    def are_apart(self, end: int, start: int) -> bool:
        """Whether the silence between two spans, padding included, is too long for a window."""
        return start - end + 2 * self._padding > self._max_silence

    def feed(self, probabilities: Tensor) -> list[Span]:
        """The spans that the next probabilities (T,) complete."""
        found: list[Span] = []
        for probability in probabilities.tolist():
            self._time += 1
            if self._first is None:
                if not probability >= self._onset:  # NaN too
                    continue
                self._first = self._time - 1
                self._begin = max(self._given, self._first - self._padding)
                self._heard = []
            self._heard.append(probability)
            if probability >= self._offset:
                self._last = self._time
                if self._last - self._begin > self._max_window:
                    found.append(self._cut())
            elif self._time - self._last >= self._min_silence:
                found += self._close()
        return found

    def finish(self) -> list[Span]:
        """The last span, if one is open; the next `feed` starts a new recording."""
        found = self._close() if self._first is not None else []
        self._start()
        return found

    def _close(self) -> list[Span]:
        """The open span, which ends here, unless it is too short to be speech."""
        assert self._first is not None
        is_speech = self._last - self._first >= self._min_speech
        self._first = None
        if not is_speech:
            return []
        self._given = min(self._last + self._padding, self._begin + self._max_window, self._time)
        return [Span(self._begin, self._given)]

    def _cut(self) -> Span:
        """The first part of the open span, which is too long; the rest stays open."""
        start = self._time - len(self._heard)  # the frame of the first probability held
        low, high = self._begin + math.ceil(self._max_window * 2 / 3), self._begin + self._max_window
        heard = torch.tensor(self._heard)
        smooth = F.avg_pool1d(heard[None], self._dip, 1, self._dip // 2, count_include_pad=False)[0]
        smooth = smooth[low - start : high + 1 - start]
        lowest = (smooth == smooth.min()).tolist()
        dips = [list(dip) for is_dip, dip in groupby(range(len(lowest)), lowest.__getitem__) if is_dip]
        longest = max(dips, key=lambda dip: (len(dip), dip[0]))
        span = Span(self._begin, low + longest[len(longest) // 2])
        self._begin = span.end
        self._heard = self._heard[span.end - start :]
        return span


class _Held:
    """The latest samples of a recording, addressed by their place in it."""

    def __init__(self) -> None:
        self._blocks: deque[Tensor] = deque()
        self._start = 0
        self.end = 0

    def append(self, block: Tensor) -> None:
        self._blocks.append(block)
        self.end += len(block)

    def drop(self, before: int) -> None:
        """Let go of the blocks that end before that sample."""
        while self._blocks and self._start + len(self._blocks[0]) <= before:
            self._start += len(self._blocks.popleft())

    def take(self, start: int, end: int) -> Tensor:
        """A copy of the samples from `start` up to `end`."""
        parts, place = [], self._start
        for block in self._blocks:
            parts.append(block[max(0, start - place) : max(0, end - place)])
            place += len(block)
        return torch.cat(parts)
