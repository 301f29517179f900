"""The Python interface: `load` a bundle, then transcribe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from s2s.audio.read import read_audio
from s2s.data.batch import Batch
from s2s.decoding.config import DecodingConfig, build_search
from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle

Audio = str | os.PathLike[str] | np.ndarray | Tensor


@dataclass(frozen=True)
class Transcript:
    """The text of one recording, its score (natural log), its length in seconds, and the n best (text, score)."""

    text: str
    score: float
    seconds: float
    nbest: list[tuple[str, float]] = field(default_factory=list)


class Transcriber:
    """A bundle with a search: audio in, text out.

    `device` is where the model runs; `decoding` how it searches (default: joint CTC/attention beam search).
    """

    def __init__(self, bundle: Bundle, decoding: DecodingConfig | None = None) -> None:
        self.bundle = bundle
        self.decoding = decoding or DecodingConfig()
        self.search = build_search(self.decoding, bundle.model)
        self.device = next(bundle.model.parameters()).device

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
            samples = self._samples(recording)
            features, lengths = self.bundle.fbank(samples.unsqueeze(0), torch.tensor([len(samples)]))
            yield self._decode(features, lengths, [len(samples) / self.sampling_rate])[0]

    def transcribe_batch(self, batch: Batch) -> list[tuple[str, Transcript]]:
        """(id, transcript) of every utterance of a batch of features."""
        if not len(batch):
            return []
        shift = self.bundle.fbank.config.frame_shift
        seconds = [shift * frames for frames in batch.source_lengths.tolist()]
        return list(zip(batch.ids, self._decode(batch.source, batch.source_lengths, seconds), strict=True))

    def _samples(self, recording: Audio) -> Tensor:
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
        return samples

    @torch.inference_mode()
    def _decode(self, features: Tensor, lengths: Tensor, seconds: list[float]) -> list[Transcript]:
        memory = self.bundle.model.encode(features.to(self.device), lengths.to(self.device))
        decode = self.bundle.tokenizer.decode
        found = []
        for hypotheses, duration in zip(self.search(memory), seconds, strict=True):
            nbest = [(decode(hypothesis.tokens), hypothesis.score) for hypothesis in hypotheses]
            found.append(Transcript(nbest[0][0], nbest[0][1], duration, nbest))
        return found


def load(
    folder: str | os.PathLike[str], decoding: DecodingConfig | None = None, device: str | torch.device = "cpu"
) -> Transcriber:
    """A transcriber from the bundle in `folder`; UserError where it is not a whole bundle."""
    return Transcriber(load_bundle(folder, device), decoding)
