"""A feed-forward for each language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.feed_forward import FeedForward, Shared

SOURCE, TARGET = 0, 1  # columns of languages (B,2)


@dataclass(frozen=True)
class LanguageLayersConfig:
    """Layers, by numbers from 1, whose feed-forward is one of several, chosen by a language of the prompt.

    After Pires et al. 2023, "Learning language-specific layers", arXiv:2305.02665: there whole layers of an encoder are
    chosen, by the source in the middle and by the target above; here it is the feed-forward, in decoders too.

    Attributes:
        num_languages: how many the tokenizer has.
        source: layers that are chosen by the language heard or read.
        target: layers that are chosen by the language to write.
    """

    num_languages: int
    source: Sequence[int] = ()
    target: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.num_languages < 1:
            raise UserError(f"num_languages={self.num_languages}: expected at least 1")
        if both := sorted(set(self.source) & set(self.target)):
            raise UserError(f"source and target both name layer {both[0]}; expected it in one of them")


class LanguageFeedForward(nn.Module):
    """One feed-forward a language: every row goes through that of its own; those of one language go together."""

    def __init__(
        self, num_languages: int, side: int, model_dim: int, hidden_dim: int, dropout: float, activation: nn.Module
    ) -> None:
        super().__init__()
        self.side = side
        self.of_language = nn.ModuleList(
            FeedForward(model_dim, hidden_dim, dropout, activation) for _ in range(num_languages)
        )

    def forward(self, x: Tensor, languages: Tensor | None) -> Tensor:
        """x (A,...,D) of languages (B,2), A a multiple of B, rows of an utterance adjacent -> the same shape

        Raises UserError where no languages are given, or one that it does not have.
        """
        if languages is None:
            raise UserError("language_layers: this model has to be told the languages; its tokenizer needs --language")
        if int(languages.max()) >= len(self.of_language):
            raise UserError(
                f"language_layers.num_languages={len(self.of_language)}: expected as many as the tokenizer has"
            )
        own = languages[:, self.side].repeat_interleave(len(x) // len(languages))
        rows = [(own == number).nonzero().squeeze(1) for number in range(len(self.of_language))]
        parts = [
            feed_forward(x[index]) for feed_forward, index in zip(self.of_language, rows, strict=True) if len(index)
        ]
        return torch.cat(parts)[torch.cat(rows).argsort()]


def of_languages(
    config: LanguageLayersConfig | None,
    num_layers: int,
    model_dim: int,
    hidden_dim: int,
    dropout: float,
    activation: nn.Module,
) -> list[LanguageFeedForward | None]:
    """For each of the layers what chooses its feed-forward, None for one that has its own.

    Raises UserError for a number that no layer has.
    """
    found: list[LanguageFeedForward | None] = [None] * num_layers
    if config is None:
        return found
    for side, name, numbers in ((SOURCE, "source", config.source), (TARGET, "target", config.target)):
        for number in numbers:
            if not 1 <= number <= num_layers:
                raise UserError(f"language_layers.{name}: layer {number}; expected 1 to {num_layers}")
            found[number - 1] = LanguageFeedForward(
                config.num_languages, side, model_dim, hidden_dim, dropout, activation
            )
    return found


def feed(feed_forward: nn.Module | Shared, x: Tensor, languages: Tensor | None) -> Tensor:
    """x (A,...,D) -> what a feed-forward of a layer makes of it, told the languages (B,2) where it chooses by them."""
    result: Tensor = feed_forward(x, languages) if isinstance(feed_forward, LanguageFeedForward) else feed_forward(x)
    return result
