"""Cuts to batches: read, resample, features, tokens, padding."""

from __future__ import annotations

import zlib

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from s2s.audio.features import Features
from s2s.audio.resample import resample
from s2s.data.alignments import token_ends
from s2s.data.batch import Batch
from s2s.data.cuts import origin, text
from s2s.data.directions import prompt, spoken
from s2s.data.samples import load_samples
from s2s.errors import UserError
from s2s.models.prompts import Prompts
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.prompts import PromptTokens


class SpeechDataset(Dataset[Batch]):
    """What is indexed by the cuts of a batch and gives the batch; a `DataLoader` runs it in its workers.

    `tokenizer` None leaves the targets empty, to decode; `spoken_tokenizer` is for what is said, where that is to be
    read all the same. `features` are used as they are: in training they may dither.
    `skip_bad_audio` leaves out an utterance whose audio fails and names it in `Batch.skipped`, instead of raising.
    Examples of a direction (see `s2s.data.directions`) have what is spoken besides, and with `prompts` what is asked.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        features: Features,
        skip_bad_audio: bool = False,
        prompts: PromptTokens | None = None,
        spoken_tokenizer: Tokenizer | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.spoken_tokenizer = spoken_tokenizer or tokenizer
        self.features = features
        self.skip_bad_audio = skip_bad_audio
        self.prompts = prompts
        self._num_tokens: dict[str, int] = {}  # by text: asked for in every epoch

    def num_tokens(self, cut: Cut) -> int:
        """How many tokens its text has, 0 where there is none or no tokenizer."""
        words = None if self.tokenizer is None else text(cut)
        if self.tokenizer is None or words is None:
            return 0
        if words not in self._num_tokens:
            self._num_tokens[words] = len(self.tokenizer.encode(words))
        return self._num_tokens[words]

    @torch.no_grad()
    def __getitem__(self, cuts: CutSet) -> Batch:
        """The batch of some cuts, in their order.

        Raises UserError, naming the line of the corpus, for audio that cannot be read (see `skip_bad_audio`) or is
        shorter than a frame, and for an utterance without text where there is a tokenizer.
        """
        kept: list[Cut] = []
        waveforms: list[Tensor] = []
        skipped: list[str] = []
        for cut in cuts:
            try:
                waveforms.append(self._samples(cut))
                kept.append(cut)
            except UserError as error:
                if not self.skip_bad_audio:
                    raise
                skipped.append(f"{cut.id}: {error}")

        source, source_lengths = self._features(waveforms, zlib.crc32(" ".join(cut.id for cut in kept).encode()))
        tokens = [self._tokens(cut) for cut in kept]
        return Batch(
            ids=[cut.id for cut in kept],
            source=source,
            source_lengths=source_lengths,
            target=_pad(tokens),
            target_lengths=_lengths(tokens),
            texts=[text(cut) or "" for cut in kept],
            seconds=float(sum(cut.duration for cut in kept)),
            skipped=skipped,
            target_ends=self._target_ends(kept),
            asked=self._asked(kept),
            spoken=self._spoken(kept),
        )

    def _samples(self, cut: Cut) -> Tensor:
        samples = resample(load_samples(cut), cut.sampling_rate, self.features.config.sampling_rate)
        if self.features.num_frames(len(samples)) < 1:
            raise UserError(
                f"{origin(cut)}: utterance {cut.id}: {cut.duration:.3f} s are shorter than a frame of features"
            )
        return samples

    def _features(self, waveforms: list[Tensor], seed: int) -> tuple[Tensor, Tensor]:
        if not waveforms:
            return torch.zeros(0, 0, self.features.config.num_mel_bins), torch.zeros(0, dtype=torch.int64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # dither: the same in any worker
            source, lengths = self.features(_pad(waveforms), _lengths(waveforms))
        return source, lengths

    def _tokens(self, cut: Cut) -> Tensor:
        if self.tokenizer is None:
            return torch.zeros(0, dtype=torch.int64)
        words = text(cut)
        if words is None:
            raise UserError(f"{origin(cut)}: utterance {cut.id} has no text to learn; add it or skip it (no_text)")
        return torch.tensor(self.tokenizer.encode(words), dtype=torch.int64)

    def _asked(self, cuts: list[Cut]) -> Prompts | None:
        return None if self.prompts is None else Prompts.of(self.prompts, [prompt(cut) for cut in cuts])

    def _spoken(self, cuts: list[Cut]) -> tuple[Tensor, Tensor] | None:
        words, tokenizer = [spoken(cut) for cut in cuts], self.spoken_tokenizer
        if tokenizer is None or not cuts or any(each is None for each in words):
            return None
        tokens = [torch.tensor(tokenizer.encode(each or ""), dtype=torch.int64) for each in words]
        return _pad(tokens), _lengths(tokens)

    def _target_ends(self, cuts: list[Cut]) -> Tensor | None:
        """The frame after the last of each token (B,U), where that is known of all utterances."""
        ends = [token_ends(cut) for cut in cuts]
        if self.tokenizer is None or not cuts or any(own is None for own in ends):
            return None
        return _pad([(torch.tensor(own) / self.features.config.frame_shift).round().long() for own in ends])


def _pad(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 0, dtype=torch.int64)


def _lengths(rows: list[Tensor]) -> Tensor:
    return torch.tensor([len(row) for row in rows], dtype=torch.int64)
