"""The Python interface: `load` a bundle, then transcribe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from s2s.audio.read import read_audio
from s2s.data.batch import Batch
from s2s.decoding.alignment import Word, token_spans, word_times
from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig
from s2s.decoding.ensemble import encode
from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.search_all import search_all
from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.lm_bundle import check_vocabulary
from s2s.models.memory import Memory

Audio = str | os.PathLike[str] | np.ndarray | Tensor


@dataclass(frozen=True)
class Transcript:
    """The text of one recording, its score (natural log) with its parts, and the recording's length in seconds.

    On request: `words` with their times, `attention` (U,T) of its tokens, and the rest of the n best as `alternatives`.
    """

    text: str
    score: float
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)
    words: list[Word] | None = None
    attention: Tensor | None = None
    alternatives: list[Transcript] = field(default_factory=list)


class Transcriber:
    """A bundle with a search: audio in, text out.

    `decoding` is how it searches (default: joint CTC/attention beam search), `others` the other members of an ensemble.
    """

    def __init__(
        self, bundle: Bundle, decoding: DecodingConfig | None = None, others: Mapping[str, Bundle] | None = None
    ) -> None:
        self.bundle = bundle
        self.decoding = decoding or DecodingConfig()
        for folder, other in (others or {}).items():
            check_vocabulary(other.tokenizer, bundle.tokenizer, f"decoding.ensemble: {folder}")
            if other.fbank.config != bundle.fbank.config:
                raise UserError(f"decoding.ensemble: {folder}: its features are not those of the first bundle")
        self.models = [bundle.model, *(other.model for other in (others or {}).values())]
        self.search = build_search(self.decoding, self.models, bundle.tokenizer)
        self.device = next(bundle.model.parameters()).device
        self.seconds_per_frame = bundle.fbank.config.frame_shift * bundle.model.encoder.subsampling_factor

    @property
    def sampling_rate(self) -> int:
        """Samples a second of the arrays that `transcribe` takes; files of any rate are resampled to it."""
        return self.bundle.fbank.config.sampling_rate

    def transcribe(self, audio: Audio | Sequence[Audio]) -> Iterator[Transcript]:
        """The transcript of each recording, in order, as soon as it is known.

        A recording is a path or samples (n,) in [-1,1] at `sampling_rate`. Raises UserError for one that cannot be
        read or is shorter than one frame of features.
        """
        for recording in [audio] if isinstance(audio, str | os.PathLike | np.ndarray | Tensor) else audio:
            name, samples = self._samples(recording)
            features, lengths = self.bundle.fbank(samples.unsqueeze(0), torch.tensor([len(samples)]))
            found = self._decode([([name], features, lengths, [len(samples) / self.sampling_rate])])
            yield next(found)[1]

    def transcribe_batches(self, batches: Iterable[Batch]) -> Iterator[tuple[str, Transcript]]:
        """(id, transcript) of every utterance of batches of features, as soon as it is known, in no order.

        A batch is asked for when there is place for more of its utterances.
        """
        shift = self.bundle.fbank.config.frame_shift
        return self._decode(
            (batch.ids, batch.source, batch.source_lengths, [shift * n for n in batch.source_lengths.tolist()])
            for batch in batches
            if len(batch)
        )

    def align(self, audio: Audio, text: str) -> list[Word]:
        """When each word of `text` was said in a recording, by the best path of the CTC output through its tokens.

        Raises UserError for a text that needs more frames than the audio has, or characters that the tokenizer lacks.
        """
        name, samples = self._samples(audio)
        features, lengths = self.bundle.fbank(samples.unsqueeze(0), torch.tensor([len(samples)]))
        tokens = torch.tensor([self.bundle.tokenizer.encode(text)], dtype=torch.long)
        size = torch.tensor([tokens.size(1)])
        batch = Batch([name], features, lengths, tokens, size, [text], len(samples) / self.sampling_rate, [])
        return self.align_batch(batch)[0][1]

    @torch.inference_mode()
    def align_batch(self, batch: Batch) -> list[tuple[str, list[Word]]]:
        """(id, words) of every utterance of a batch of features with targets."""
        if not len(batch):
            return []
        tokenizer, model = self.bundle.tokenizer, self.bundle.model
        targets = [row[:size].tolist() for row, size in zip(batch.target, batch.target_lengths.tolist(), strict=True)]
        for name, tokens, text in zip(batch.ids, targets, batch.texts, strict=True):
            if tokenizer.unk_id in tokens:
                raise UserError(f"{name}: '{text}' has characters that the tokenizer lacks; write it as in training")
        memory = model.encode(batch.source.to(self.device), batch.source_lengths.to(self.device))
        try:
            spans = token_spans(model.ctc(memory), memory.lengths, targets, model.blank_id)
        except UtteranceError as error:
            raise UserError(f"{batch.ids[error.utterance]}: {error.problem}") from error
        return [
            (name, word_times(tokenizer.pieces(tokens), frames, self.seconds_per_frame))
            for name, tokens, frames in zip(batch.ids, targets, spans, strict=True)
        ]

    def _samples(self, recording: Audio) -> tuple[str, Tensor]:
        if isinstance(recording, str | os.PathLike):
            samples, _ = read_audio(recording, self.sampling_rate)
            name = os.fspath(recording)
        else:
            samples, name = torch.as_tensor(recording, dtype=torch.float32), "the array of samples"
            if samples.dim() != 1:
                raise UserError(f"{name} has the shape {tuple(samples.shape)}; expected one channel, (n,)")
        if self.bundle.fbank.num_frames(len(samples)) < 1:
            seconds = len(samples) / self.sampling_rate
            raise UserError(f"{name}: {seconds:.3f} s of audio are shorter than one frame of features; nothing to hear")
        return name, samples

    @torch.inference_mode()
    def _decode(
        self, batches: Iterable[tuple[Sequence[str], Tensor, Tensor, list[float]]]
    ) -> Iterator[tuple[str, Transcript]]:
        """Ids, features (B,S,F), lengths (B,) and seconds of batches -> (id, transcript) of each utterance."""
        names: list[str] = []
        seconds: list[float] = []

        def memories() -> Iterator[Memory]:
            for ids, features, lengths, durations in batches:
                memory = encode(self.models, features.to(self.device), lengths.to(self.device))
                names.extend(ids)
                seconds.extend(durations)
                yield memory

        try:
            for number, hypotheses in search_all(self.search, memories()):
                best, *others = (self._transcript(hypothesis, seconds[number]) for hypothesis in hypotheses)
                yield names[number], replace(best, alternatives=others)
        except UtteranceError as error:
            raise UserError(f"{names[error.utterance]}: {error.problem}") from error

    def _transcript(self, hypothesis: Hypothesis, seconds: float) -> Transcript:
        tokenizer, words = self.bundle.tokenizer, None
        if hypothesis.frames is not None:
            words = word_times(tokenizer.pieces(hypothesis.tokens), hypothesis.frames, self.seconds_per_frame)
        text = tokenizer.decode(hypothesis.tokens)
        return Transcript(text, hypothesis.score, seconds, hypothesis.scores, words, hypothesis.attention)


def load(
    folder: str | os.PathLike[str], decoding: DecodingConfig | None = None, device: str | torch.device = "cpu"
) -> Transcriber:
    """A transcriber from the bundle in `folder`; UserError where it is not a whole bundle."""
    others = {other: load_bundle(other, device) for other in decoding.ensemble} if decoding else {}
    return Transcriber(load_bundle(folder, device), decoding, others)
