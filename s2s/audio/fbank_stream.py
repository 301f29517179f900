"""Filterbank features of a waveform that arrives in pieces."""

from __future__ import annotations

import torch
from torch import Tensor

from s2s.audio.fbank import Fbank
from s2s.errors import UserError


class FbankStream:
    """Features of one utterance fed in pieces of any size: the frames `Fbank` gives for the whole, each as soon as its
    last sample is there. Holds less than one window of samples between calls.

    Raises UserError for an `Fbank` without `snip_edges`, whose last frames depend on where the utterance ends.
    """

    def __init__(self, fbank: Fbank) -> None:
        if not fbank.config.snip_edges:
            raise UserError(
                "fbank: snip_edges=false mirrors the end of the whole utterance; a stream needs snip_edges=true"
            )
        self.fbank = fbank
        self._rest: Tensor | None = None

    def feed(self, samples: Tensor) -> Tensor:
        """Features (S,F), S >= 0, of the frames that the samples (n,), in [-1, 1], complete."""
        if self._rest is not None:
            samples = torch.cat([self._rest, samples])
        features, _ = self.fbank(samples[None], torch.tensor([len(samples)], device=samples.device))
        self._rest = samples[features.shape[1] * self.fbank.config.shift_samples :].clone()  # clone: frees the rest
        return features[0]

    def finish(self) -> Tensor:
        """End the utterance; the samples left do not fill a frame, so (0,F). The next `feed` starts a new utterance."""
        device = self.fbank.window.device
        self._rest = None
        return torch.zeros(0, self.fbank.config.num_mel_bins, device=device)
