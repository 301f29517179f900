"""Streams heard chunk by chunk, by a hybrid CTC/attention model whose encoder can."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.audio.fbank import Fbank
from s2s.audio.fbank_stream import FbankStream
from s2s.decoding.alignment import word_times
from s2s.decoding.config import DecodingConfig
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.streaming.build import build_streaming_search
from s2s.decoding.streaming.endpoint import EndpointConfig, end_point
from s2s.decoding.streaming.partial import Partial
from s2s.decoding.streaming.words import whole_words, word_starts
from s2s.errors import UserError
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.nn.frames import PastFrames
from s2s.streaming.event import StreamEvent
from s2s.streaming.session import Streamer
from s2s.transcription.sentences import shifted


@dataclass(eq=False)
class _Segment:
    """Speech between two end points: what encoder and search know of it, and what was shown of it."""

    first: int  # feature frames before it, of the whole stream
    past: PastFrames
    found: Any  # the search's state
    heard: int = 0  # encoder frames
    partial: Partial | None = None
    shown: str = ""


@dataclass(eq=False)
class ChunkStream:
    """What is held of one stream: less than a window of samples, the features that wait, and the segment at hand."""

    fbank: FbankStream
    features: Tensor  # (S,F) that wait for the encoder
    segment: _Segment
    samples: int = 0  # fed so far
    ended: bool = False
    closed: bool = False
    events: list[StreamEvent] = field(default_factory=list)


class ChunkStreamer(Streamer[ChunkStream]):
    """Sessions of one model, decoded as `decoding` says, in its chunks or in those the encoder was made for.

    At every end point the encoder and the search begin anew: memory is bounded, and the next sentence is heard as if
    it were the first. Raises UserError where the model cannot be streamed so.
    """

    def __init__(
        self,
        bundle: Bundle[HybridModel],
        decoding: DecodingConfig,
        endpoint: EndpointConfig | None = None,
    ) -> None:
        if not isinstance(bundle.features, Fbank):
            raise UserError(f"features: {type(bundle.features).__name__} needs whole recordings; it cannot be streamed")
        self.fbank = bundle.features
        self.bundle, self.endpoint = bundle, endpoint or EndpointConfig()
        self.search = build_streaming_search(decoding, bundle.model, bundle.tokenizer)
        self.encoder = bundle.model.streaming_encoder
        self.chunks = self.encoder.start(0, decoding.chunks).chunks
        self.window, self.hop = self.encoder.window(self.chunks)
        self.view = self.window - self.hop + self.encoder.subsampling_factor  # feature frames of one encoder frame
        config = self.fbank.config
        self.sampling_rate = config.sampling_rate
        self.frame_shift = config.frame_shift
        self.seconds_per_frame = config.frame_shift * self.encoder.subsampling_factor
        self.begins = word_starts(bundle.tokenizer).tolist()
        self.device = next(bundle.model.parameters()).device

    def start(self) -> ChunkStream:
        fbank = FbankStream(self.fbank)
        return ChunkStream(fbank, torch.zeros(0, self.fbank.config.num_mel_bins), self._segment(0))

    def _segment(self, first: int) -> _Segment:
        like = Memory(torch.zeros(1, 1, self.encoder.model_dim, device=self.device), torch.zeros(1, device=self.device))
        return _Segment(first, self.encoder.start(1, self.chunks), self.search.start(1, like))

    def hear(self, stream: ChunkStream, samples: Tensor) -> None:
        stream.samples += len(samples)
        stream.features = torch.cat((stream.features, stream.fbank.feed(samples)))

    def end(self, stream: ChunkStream) -> None:
        stream.ended = True

    def is_ready(self, stream: ChunkStream) -> bool:
        return len(stream.features) >= self.window or (stream.ended and not stream.closed)

    def copied(self, stream: ChunkStream) -> ChunkStream:
        return replace(stream, segment=replace(stream.segment), events=list(stream.events))

    @torch.inference_mode()
    def advance(self, streams: list[ChunkStream]) -> list[list[StreamEvent]]:
        windows = [(stream, window) for stream in streams if (window := self._take(stream)) is not None]
        if windows:
            self._hear(windows)
        for stream in streams:
            stream.closed = stream.ended and self._waits_for_more(stream)
        over = [stream for stream in streams if stream.closed or self._at_end_point(stream)]
        if over:
            self._finish(over)
        events = [stream.events for stream in streams]
        for stream in streams:
            stream.events = []
        return events

    def _waits_for_more(self, stream: ChunkStream) -> bool:
        """Whether the features that are there make no frame: at the very beginning, a part of one is one."""
        if stream.segment.first == stream.segment.heard == 0 and len(stream.features):
            return len(stream.features) < (1 if stream.ended else self.window)
        return len(stream.features) < (self.view if stream.ended else self.window)

    def _take(self, stream: ChunkStream) -> Tensor | None:
        """The features of the next chunk (S,F), where they are there."""
        if self._waits_for_more(stream):
            return None
        window, stream.features = stream.features[: self.window], stream.features[self.hop :].clone()
        return window

    def _hear(self, windows: list[tuple[ChunkStream, Tensor]]) -> None:
        streams, features = zip(*windows, strict=True)
        lengths = torch.tensor([len(each) for each in features], device=self.device)
        source = pad_sequence(list(features), batch_first=True).to(self.device)
        past = PastFrames.joined([stream.segment.past for stream in streams])
        memory, past = self.bundle.model.step(source, lengths, past)
        found = self.search.step(memory, self.search.join([stream.segment.found for stream in streams]))
        partials = self.search.partials(found)
        for row, (stream, partial) in enumerate(zip(streams, partials, strict=True)):
            segment = stream.segment
            segment.past, segment.found = past.rows([row]), self.search.rows(found, [row])
            segment.heard, segment.partial = partial.heard, partial
            begins = [self.begins[token] for token in partial.hypothesis.tokens]
            num_stable = whole_words(partial.num_stable, [*begins, False])  # the last word may go on
            event = self._event(stream, "partial", partial.hypothesis, num_stable)
            if event.text != segment.shown:
                segment.shown = event.text
                stream.events.append(event)

    def _at_end_point(self, stream: ChunkStream) -> bool:
        partial = stream.segment.partial
        return partial is not None and end_point(self.endpoint, partial, self.seconds_per_frame) is not None

    def _finish(self, streams: list[ChunkStream]) -> None:
        """The segments of these are over."""
        heard = [stream for stream in streams if stream.segment.heard]
        if heard:
            found = self.search.finish(self.search.join([stream.segment.found for stream in heard]))
            for stream, hypotheses in zip(heard, found, strict=True):
                event = self._event(stream, "final", hypotheses[0], len(hypotheses[0].tokens))
                if event.text or stream.segment.shown:
                    stream.events.append(event)
        for stream in streams:
            frames = stream.segment.heard * self.encoder.subsampling_factor
            stream.segment = self._segment(stream.segment.first + frames)

    def _event(self, stream: ChunkStream, kind: str, hypothesis: Hypothesis, num_stable: int) -> StreamEvent:
        tokenizer, segment = self.bundle.tokenizer, stream.segment
        begin = segment.first * self.frame_shift
        words = None
        if hypothesis.frames is not None:
            pieces = tokenizer.pieces(hypothesis.tokens)
            words = [shifted(word, begin) for word in word_times(pieces, hypothesis.frames, self.seconds_per_frame)]
        heard = stream.samples / self.sampling_rate
        end = min(begin + segment.heard * self.seconds_per_frame, heard)
        return StreamEvent(
            kind=kind,
            text=tokenizer.decode(hypothesis.tokens).strip(),
            stable=tokenizer.decode(hypothesis.tokens[:num_stable]).strip(),
            start=words[0].start if words else begin,
            end=words[-1].end if words else end,
            heard=heard,
            words=words,
            score=hypothesis.score,
        )
