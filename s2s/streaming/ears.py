"""How models that hear whole utterances hear the segments of streams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from s2s.audio.windows import Window
from s2s.errors import UserError
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.prompts import Prompts
from s2s.streaming.whole import WholeStream
from s2s.tokenizers.joint import prompt_tokens
from s2s.tokenizers.prompts import Prompt
from s2s.transcription.hearing import Hearing
from s2s.transcription.request import Request
from s2s.transcription.whisper import WhisperTranscriber


class WhisperEar:
    """Whisper's: a segment with silence behind it, and a prompt of language and task, without timestamps.

    Where nobody says, the language is that of what is heard first.
    """

    seconds_per_frame = 0.02
    max_seconds = 30.0

    def __init__(self, transcriber: WhisperTranscriber, language: str | None = None, task: str = "transcribe") -> None:
        self.request = transcriber.check(Request(language, task))
        self.transcriber, self.tokenizer = transcriber, transcriber.tokenizer
        self.sampling_rate = transcriber.sampling_rate

    def hear(self, streams: Sequence[WholeStream]) -> Memory:
        hearings = [
            Hearing(Window(0.0, stream.samples, []), stream.language or self.request.language, timestamps=False)
            for stream in streams
        ]
        memory = self.transcriber.prompted(hearings, self.request.task)
        for stream, hearing in zip(streams, hearings, strict=True):
            stream.language = hearing.language
        return memory


class HybridEar:
    """That of a hybrid CTC/attention model whose encoder hears whole utterances; `asked` is for one with prompts."""

    max_seconds = 30.0

    def __init__(self, bundle: Bundle[HybridModel], asked: Prompt | None = None) -> None:
        self.bundle, self.tokenizer, self.asked = bundle, bundle.tokenizer, asked
        config = bundle.features.config
        self.sampling_rate = config.sampling_rate
        self.seconds_per_frame = config.frame_shift * bundle.model.encoder.subsampling_factor
        self.device = next(bundle.model.parameters()).device

    def hear(self, streams: Sequence[WholeStream]) -> Memory:
        lengths = torch.tensor([len(stream.samples) for stream in streams])
        samples = pad_sequence([stream.samples for stream in streams], batch_first=True)
        features, frames = self.bundle.features(samples, lengths)
        if int(frames.min()) < 1:
            raise UserError("a segment that is shorter than one frame of features; feed more at once")
        tokens, asked = prompt_tokens(self.tokenizer), None
        if tokens is not None and self.asked is not None:
            asked = Prompts.of(tokens, [self.asked] * len(streams)).to(self.device)
        return self.bundle.model.encode(features.to(self.device), frames.to(self.device), asked=asked)
