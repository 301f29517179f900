"""Text translation, as a training loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from s2s.data.batch import Batch
from s2s.data.denoising import mask_id, masked
from s2s.data.parallel import Direction, read_parallel
from s2s.data.text_batches import TokenPairs
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.prompted_encoding import check_prompts
from s2s.models.translation_bundle import KEY, TranslationBundle, TranslationTokenizer
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.joint import prompt_tokens
from s2s.tokenizers.load import load_tokenizer
from s2s.tokenizers.prompts import Prompt
from s2s.training.config import TrainConfig
from s2s.training.task import Losses
from s2s.training.teacher import teacher_of
from s2s.training.text_task import Texts, TextTask
from s2s.training.validation import validate_next_tokens


class TranslationTask(TextTask[Texts]):
    """An encoder-decoder of text."""

    key = KEY

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.bundle = make_bundle(config)
        self.teacher = teacher_of(config.distillation, self.bundle)

    def check_sources(self, directions: list[Direction]) -> None:
        """Raise UserError where a direction has other sources than the model reads at once."""
        num_sources = getattr(self.bundle.model.encoder, "num_sources", 1)
        for each in directions:
            if len(each.sources) != num_sources:
                raise UserError(
                    f"text.pairs: {each} has {len(each.sources)} sources, and the model reads {num_sources}; for "
                    "several choose model=multi_source_translation, and model.encoder.num_sources"
                )

    def losses(self, model: nn.Module, batch: Batch, seed: int) -> Losses:
        given, share = None, self.config.text.decoder_mask
        if share:
            given = masked(batch.target, share, mask_id(self.bundle.tokenizer), seed)
        lesson = self.teacher.lesson(batch, given) if self.teacher else None
        source, target = (batch.source, batch.source_lengths), (batch.target, batch.target_lengths)
        return Losses(model(*source, *target, batch.asked, given, lesson))

    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        model = self.bundle.model.eval()

        def log_probs_of(batch: Batch, tokens: Tensor) -> Tensor:
            return model.decoder(model.encode(batch.source, batch.source_lengths, batch.asked), tokens)

        return validate_next_tokens(log_probs_of, model.bos_id, model.eos_id, map(to_device, batches))


class TextTranslation(TranslationTask[TokenPairs]):
    """An encoder-decoder and parallel text."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.directions = [Direction.of(pair) for pair in config.text.pairs]
        check_directions(self.bundle.tokenizer, self.directions, "text.pairs")
        self.check_sources(self.directions)

    def read(self, paths: list[str], key: str) -> tuple[TokenPairs, int]:
        plain_share = self.config.text.plain_share if key == "text.train" else 0.0
        return read_pairs(paths, key, self.directions, self.bundle.tokenizer, plain_share)


def read_pairs(
    folders: list[str],
    key: str,
    directions: list[Direction],
    tokenizer: TranslationTokenizer,
    plain_share: float = 0.0,
) -> tuple[TokenPairs, int]:
    """The sentences of folders as tokens, and how many were empty; UserError where there are none, naming `key`."""
    if not folders:
        raise UserError(f"{key} is empty; name at least one folder with files such as text.en: {key}=[data/train]")
    sentences, num_empty = read_parallel(folders, directions)
    return TokenPairs.of(sentences, tokenizer, plain_share), num_empty


def make_bundle(config: TrainConfig) -> TranslationBundle:
    """A fresh model, its weights decided by `training.seed`, with the tokenizer of the config."""
    torch.manual_seed(config.training.seed)
    model = build(config.model)
    if not isinstance(model, EncoderDecoder):
        raise UserError(
            f"model._target_: expected {EncoderDecoder.__module__}.EncoderDecoder for task=translation, got "
            f"{type(model).__name__}"
        )
    tokenizer = load_tokenizer(config.tokenizer)
    if not isinstance(tokenizer, TranslationTokenizer):
        raise UserError(
            f"tokenizer={config.tokenizer}: a {tokenizer.kind} tokenizer of one side; train one with "
            "`s2s tokenizer train --translation`"
        )
    check_prompts(model, tokenizer)
    return TranslationBundle(model, tokenizer, config.model)


def check_directions(tokenizer: Tokenizer, directions: list[Direction], key: str, tells: bool = True) -> None:
    """Raise UserError, naming `key`, where a model cannot be told what to write: for want of tokens in its prompts.

    One that writes a single language need not be told, nor one whose source tells (not `tells`).
    """
    tokens = prompt_tokens(tokenizer)
    if tokens is not None:
        for each in directions:
            try:
                tokens.encode(Prompt(each.source, each.target))
            except UserError as error:
                raise UserError(f"{key}: {each}: {error}") from error
    elif (
        tells
        and len(targets := {direction.target for direction in directions}) > 1
        and not getattr(tokenizer, "languages", ())
    ):
        raise UserError(
            f"{key}: a model that writes {', '.join(sorted(targets))} has to be told which, and the tokenizer has no "
            "tokens for that; train it with `s2s tokenizer train --language`, once for each language"
        )
