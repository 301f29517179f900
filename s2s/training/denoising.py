"""Pretraining by denoising, as a training loop sees it."""

from __future__ import annotations

from collections.abc import Sequence

from s2s.data.denoising import mask_id
from s2s.data.noisy_text import NoisyText
from s2s.data.parallel import Direction
from s2s.training.config import TrainConfig
from s2s.training.task import Batches
from s2s.training.text_translation import TranslationTask, check_directions, read_pairs


class Denoising(TranslationTask[NoisyText]):
    """An encoder-decoder, and text of every language of `text.pairs`, which it writes as it was before the noise."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        pairs = [Direction.of(pair) for pair in config.text.pairs]
        languages = dict.fromkeys(code for pair in pairs for code in (*pair.sources, pair.target))
        self.directions = [Direction(code, code) for code in languages]
        self.check_sources(self.directions)
        check_directions(self.bundle.tokenizer, self.directions, "text.pairs", tells=False)

    def read(self, paths: list[str], key: str) -> tuple[NoisyText, int]:
        tokenizer = self.bundle.tokenizer
        lines, num_empty = read_pairs(paths, key, self.directions, tokenizer)
        noise = self.config.denoising, mask_id(tokenizer), tokenizer.eos_id, self.config.training.seed
        return NoisyText.of(lines, *noise), num_empty

    def training_batches(
        self, epoch: int, skip_batches: int, rank: int, world_size: int, earlier: Sequence[tuple[int, int]] = ()
    ) -> Batches:
        self.train = self.train.of_epoch(epoch)
        return super().training_batches(epoch, skip_batches, rank, world_size, earlier)
