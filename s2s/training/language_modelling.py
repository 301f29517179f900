"""Language modelling, as a training loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from s2s.data.batch import Batch
from s2s.data.denoising import mask_id, masked
from s2s.data.text_lines import TokenLines, read_text_lines
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.language_model import LanguageModel, cross_entropy, teacher_forced
from s2s.models.lm_bundle import KEY, LanguageModelBundle
from s2s.tokenizers.load import load_tokenizer
from s2s.training.config import TrainConfig
from s2s.training.task import Losses
from s2s.training.text_task import TextTask
from s2s.training.validation import validate_next_tokens


class LanguageModelling(TextTask[TokenLines]):
    """A language model and lines of plain text."""

    key = KEY

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        torch.manual_seed(config.training.seed)
        model = build(config.model)
        if not isinstance(model, LanguageModel):
            raise UserError(
                f"model._target_: expected a language model for task=language_model, such as model=transformer_lm or "
                f"model=lstm_lm, got {type(model).__name__}"
            )
        self.bundle = LanguageModelBundle(model, load_tokenizer(config.tokenizer), config.model)

    def read(self, paths: list[str], key: str) -> tuple[TokenLines, int]:
        if not paths:
            raise UserError(
                f"{key} is empty; name at least one file of text, a sentence a line: {key}=[data/train.txt]"
            )
        return read_text_lines(paths, self.bundle.tokenizer)

    def losses(self, model: nn.Module, batch: Batch, seed: int) -> Losses:
        own = self.bundle.model
        tokens, labels, counted = teacher_forced(batch.target, batch.target_lengths, own.bos_id, own.eos_id)
        if share := self.config.text.decoder_mask:
            given = masked(tokens[:, 1:], share, mask_id(self.bundle.tokenizer), seed)
            tokens = torch.cat((tokens[:, :1], given), dim=1)
        return Losses(cross_entropy(model(None, tokens), labels, counted))

    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        model = self.bundle.model.eval()

        def log_probs_of(batch: Batch, tokens: Tensor) -> Tensor:
            return model.log_probs(tokens)

        return validate_next_tokens(log_probs_of, model.bos_id, model.eos_id, map(to_device, batches))
