"""Text translation, as a training loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from s2s.data.batch import Batch
from s2s.data.parallel import Direction, read_parallel
from s2s.data.text_batches import TokenPairs, evaluation_text_batches, training_text_batches
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.language_model import cross_entropy, teacher_forced
from s2s.models.translation_bundle import KEY, TranslationBundle, TranslationTokenizer
from s2s.tokenizers.load import load_tokenizer
from s2s.training.config import TrainConfig
from s2s.training.task import Batches, Losses


class TextTranslation:
    """An encoder-decoder and parallel text."""

    key = KEY
    loss_names = ()
    error_name, error_title = "token_error", "wrong next tokens"

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.bundle = make_bundle(config)
        self.directions = [Direction.of(pair) for pair in config.text.pairs]
        check_languages(self.bundle.tokenizer, self.directions)

    def load(self, say: Callable[[str], None]) -> None:
        text = self.config.text
        self.train = self._pairs(text.train, "text.train", say, text.max_length)
        self.valid = self._pairs(text.valid, "text.valid", say, text.max_batch_tokens)

    def _pairs(self, folders: list[str], key: str, say: Callable[[str], None], longest: int) -> TokenPairs:
        """The sentences of folders as tokens; those with an empty or too long side are left out and counted aloud."""
        if not folders:
            raise UserError(f"{key} is empty; name at least one folder with files such as text.en: {key}=[data/train]")
        sentences, num_empty = read_parallel(folders, self.directions)
        pairs = TokenPairs.of(sentences, self.bundle.tokenizer)
        kept = [number for number, length in enumerate(pairs.lengths()) if length <= longest]
        if num_empty or len(kept) < len(pairs):
            say(f"{key}: left out: {num_empty} empty, {len(pairs) - len(kept)} of more than {longest} tokens")
        if not kept:
            raise UserError(f"{key}: no sentences are left of {', '.join(folders)}")
        return pairs if len(kept) == len(pairs) else TokenPairs.of([sentences[n] for n in kept], self.bundle.tokenizer)

    def start(self, begun: set[str]) -> None:
        pass

    def described(self) -> str:
        return f"{len(self.train)} sentences, validating on {len(self.valid)}"

    def training_batches(self, epoch: int, skip_batches: int, rank: int, world_size: int) -> Batches:
        return training_text_batches(
            self.train,
            self.config.text,
            seed=self.config.training.seed,
            epoch=epoch,
            skip_batches=skip_batches,
            rank=rank,
            world_size=world_size,
        )

    def validation_batches(self) -> Batches:
        return evaluation_text_batches(self.valid, self.config.text)

    def losses(self, model: nn.Module, batch: Batch, seed: int) -> Losses:
        return Losses(model(batch.source, batch.source_lengths, batch.target, batch.target_lengths))

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        """Loss per token, eos counted, and how many of them are not the most probable next one after the true ones."""
        model = self.bundle.model.eval()
        total, wrong, count = 0.0, 0, 0
        for batch in map(to_device, batches):
            tokens, labels, counted = teacher_forced(batch.target, batch.target_lengths, model.bos_id, model.eos_id)
            log_probs = model.decoder(model.encode(batch.source, batch.source_lengths), tokens)
            size = int(counted.sum())
            total += float(cross_entropy(log_probs, labels, counted)) * size
            wrong += int(((log_probs.argmax(dim=-1) != labels) & counted).sum())
            count += size
        return total / max(1, count), wrong / max(1, count)


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
    return TranslationBundle(model, tokenizer, config.model)


def check_languages(tokenizer: TranslationTokenizer, directions: list[Direction]) -> None:
    """Raise UserError where the languages to write are several and the tokenizer does not know one of them."""
    targets = {direction.target for direction in directions}
    if len(targets) > 1 or tokenizer.languages:
        for target in sorted(targets - set(tokenizer.languages)):
            known = f"it knows {', '.join(tokenizer.languages)}" if tokenizer.languages else "it knows none"
            raise UserError(
                f"text.pairs: the tokenizer has no token for '{target}', one of several languages to write; {known}. "
                "Train it with `s2s tokenizer train --translation --target-language`, once for each"
            )
