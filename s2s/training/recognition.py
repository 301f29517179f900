"""Speech recognition, as a training loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from lhotse import CutSet
from torch import nn

from s2s.audio.augment import SpecAugment
from s2s.audio.fbank import Fbank
from s2s.data.batch import Batch
from s2s.data.buckets import BatchSize
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import evaluation_batches, lengths_of, speech_budget, training_batches
from s2s.data.shar import spread, with_audio
from s2s.data.surroundings import Surroundings
from s2s.errors import UserError
from s2s.models.hybrid import HybridLoss
from s2s.tokenizers.joint import prompt_tokens
from s2s.training.config import TrainConfig
from s2s.training.prepare import make_bundle, set_feature_statistics, training_cuts
from s2s.training.task import Batches, Losses, Sizing
from s2s.training.teacher import teacher_of
from s2s.training.validation import validate


class Recognition:
    """A hybrid model, recordings with their transcripts, and what is done to their features."""

    key = "model"
    loss_names = ("ctc", "attention")
    error_name, error_title = "ctc_error", "CTC greedy error"
    batch_size: BatchSize | None = None

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.bundle = make_bundle(config)
        self.augment = SpecAugment(config.spec_augment)
        self.teacher = teacher_of(config.distillation, self.bundle)

    def load(self, say: Callable[[str], None]) -> None:
        config, tokenizer = self.config, self.bundle.tokenizer
        self.train_cuts = self.cuts(config.data.train, "data.train", say)
        self.valid_cuts = self.cuts(config.data.valid, "data.valid", say)
        skip_bad_audio, prompts = True, prompt_tokens(tokenizer)  # up to data.max_bad_audio
        dithering = Fbank(config.features).train()
        self.surroundings = Surroundings(config.data.surroundings)
        self.train_dataset = SpeechDataset(tokenizer, dithering, skip_bad_audio, prompts)
        self.valid_dataset = SpeechDataset(tokenizer, self.bundle.features, skip_bad_audio, prompts)

    def cuts(self, paths: list[str], key: str, say: Callable[[str], None]) -> CutSet:
        """The utterances of `paths` to learn from; UserError, naming `key`, where there are none."""
        if prompt_tokens(self.bundle.tokenizer) or self.config.data.pairs:
            raise UserError(
                "task=recognition: knows no languages, and data.pairs or the tokenizer's prompts do; train with "
                "task=speech_translation, in which a pair such as en-en is recognition, or leave them out"
            )
        return training_cuts(paths, key, self.config, self.bundle, say)

    def start(self, begun: set[str]) -> None:
        if not any(name.startswith("normalise.") for name in begun):
            set_feature_statistics(self.bundle, self.train_cuts)

    def sizing(self) -> Sizing:
        data, features = self.config.data, self.bundle.features
        slowest = min([1.0, *data.speed_perturb])
        lengths = lengths_of(self.train_cuts, self.train_dataset, dict.fromkeys(self.train_cuts.ids, slowest))
        few = spread(self.train_cuts, 4)[:4]
        return Sizing(
            list(lengths.values()),
            lambda seconds: int(features.num_frames(int(seconds * features.config.sampling_rate))),
            self.train_dataset[CutSet.from_cuts(with_audio(few))],
            data.train,
            data.max_batch_size,
            speech_budget(data),
        )

    def described(self) -> str:
        hours = sum(cut.duration for cut in self.train_cuts) / 3600
        return f"{len(self.train_cuts)} utterances ({hours:.2f} h), validating on {len(self.valid_cuts)}"

    def training_batches(
        self, epoch: int, skip_batches: int, rank: int, world_size: int, earlier: Sequence[tuple[int, int]] = ()
    ) -> Batches:
        return training_batches(
            self.epoch_cuts(epoch),
            self.train_dataset,
            self.config.data,
            seed=self.config.training.seed,
            epoch=epoch,
            skip_batches=skip_batches,
            rank=rank,
            world_size=world_size,
            earlier=earlier,
            size=self.batch_size,
            surroundings=self.surroundings,
        )

    def epoch_cuts(self, epoch: int) -> CutSet:
        """What is trained on in an epoch."""
        return self.train_cuts

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
            batch.asked,
            batch.spoken,
            self.teacher.lesson(batch) if self.teacher else None,
        )
        return Losses(found.total, {"ctc": found.ctc, "attention": found.attention, **found.parts})

    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        return validate(self.bundle.model, batches, to_device)
