"""Speech recognition, as a training loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from s2s.audio.augment import SpecAugment
from s2s.audio.fbank import Fbank
from s2s.data.batch import Batch
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import evaluation_batches, training_batches
from s2s.models.hybrid import HybridLoss
from s2s.training.config import TrainConfig
from s2s.training.prepare import make_bundle, set_feature_statistics, training_cuts
from s2s.training.task import Batches, Losses
from s2s.training.validation import validate


class Recognition:
    """A hybrid model, recordings with their transcripts, and what is done to their features."""

    key = "model"
    loss_names = ("ctc", "attention")
    error_name, error_title = "ctc_error", "CTC greedy error"

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.bundle = make_bundle(config)
        self.augment = SpecAugment(config.spec_augment)

    def load(self, say: Callable[[str], None]) -> None:
        config = self.config
        self.train_cuts = training_cuts(config.data.train, "data.train", config, self.bundle, say)
        self.valid_cuts = training_cuts(config.data.valid, "data.valid", config, self.bundle, say)
        skip_bad_audio = "bad_audio" in config.data.skip
        dithering = Fbank(config.features).train()
        self.train_dataset = SpeechDataset(self.bundle.tokenizer, dithering, skip_bad_audio)
        self.valid_dataset = SpeechDataset(self.bundle.tokenizer, self.bundle.features, skip_bad_audio)

    def start(self, begun: set[str]) -> None:
        if not any(name.startswith("normalise.") for name in begun):
            set_feature_statistics(self.bundle, self.train_cuts)

    def described(self) -> str:
        hours = sum(cut.duration for cut in self.train_cuts) / 3600
        return f"{len(self.train_cuts)} utterances ({hours:.2f} h), validating on {len(self.valid_cuts)}"

    def training_batches(self, epoch: int, skip_batches: int, rank: int, world_size: int) -> Batches:
        return training_batches(
            self.train_cuts,
            self.train_dataset,
            self.config.data,
            seed=self.config.training.seed,
            epoch=epoch,
            skip_batches=skip_batches,
            rank=rank,
            world_size=world_size,
        )

    def validation_batches(self) -> Batches:
        return evaluation_batches(self.valid_cuts, self.valid_dataset, self.config.data)

    def losses(self, model: nn.Module, batch: Batch, seed: int) -> Losses:
        generator = torch.Generator().manual_seed(seed)
        found: HybridLoss = model(
            batch.source,
            batch.source_lengths,
            batch.target,
            batch.target_lengths,
            lambda features, lengths: self.augment(features, lengths, generator),
            batch.target_ends,
        )
        return Losses(found.total, {"ctc": found.ctc, "attention": found.attention, **found.parts})

    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        return validate(self.bundle.model, batches, to_device)
