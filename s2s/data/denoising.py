"""Noise that a model learns to undo: text infilling, permutation of sentences, masks in what a decoder is given."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.errors import UserError
from s2s.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class DenoisingConfig:
    """The noise of BART (Lewis et al. 2020, arXiv:1910.13461, section 2.2).

    Attributes:
        mask_share: of the tokens, what is masked in spans.
        mean_span: tokens that one mask stands for, the mean of a Poisson distribution; it may be none.
        sentences: lines that follow one another and are one example.
        permute: whether these are put into another order.
    """

    mask_share: float = 0.3
    mean_span: float = 3.0
    sentences: int = 1
    permute: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.mask_share <= 1.0:
            raise UserError(f"denoising.mask_share is {self.mask_share}; expected a share, from 0 to 1")
        if self.mean_span <= 0:
            raise UserError(f"denoising.mean_span is {self.mean_span}; expected more than 0")
        if self.sentences < 1:
            raise UserError(f"denoising.sentences is {self.sentences}; expected at least 1")


def mask_id(tokenizer: Tokenizer) -> int:
    """The token that stands for what is masked: the blank, which no text has.

    Raises UserError for a tokenizer without one.
    """
    if tokenizer.blank_id < 0:
        raise UserError(
            f"a {tokenizer.kind} tokenizer has no blank, which is the mask; use one of `s2s tokenizer train`"
        )
    return tokenizer.blank_id


def denoising_source(
    sentences: Sequence[Sequence[int]], config: DenoisingConfig, mask: int, chance: random.Random
) -> list[int]:
    """The tokens of sentences, permuted and infilled as the config says."""
    order = list(sentences)
    if config.permute:
        chance.shuffle(order)
    tokens = [token for sentence in order for token in sentence]
    return infilled(tokens, config.mask_share, config.mean_span, mask, chance)


def infilled(tokens: Sequence[int], share: float, mean_span: float, mask: int, chance: random.Random) -> list[int]:
    """The tokens with spans of them, `share` of all, replaced by one `mask` each; a span of none inserts a mask.

    Lengths of spans are drawn from a Poisson distribution until they are enough, the last one cut short; where they
    stand, every arrangement that does not overlap is as likely.
    """
    wanted = int(share * len(tokens) + chance.random())  # the share is kept in the mean, of short texts too
    spans: list[int] = []
    while sum(spans) < wanted:
        spans.append(min(poisson(mean_span, chance), wanted - sum(spans)))
    parts = [-1] * (len(tokens) - sum(spans)) + spans  # -1: a token that stays
    chance.shuffle(parts)
    found, at = [], 0
    for size in parts:
        found.append(tokens[at] if size < 0 else mask)
        at += abs(size)
    return found


def poisson(mean: float, chance: random.Random) -> int:
    """A number of a Poisson distribution (Knuth 1969, The art of computer programming, volume 2, section 3.4.1)."""
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def masked(tokens: Tensor, share: float, mask: int, seed: int) -> Tensor:
    """Tokens (B,U) with each replaced by `mask` with probability `share`, for a decoder to be given in training.

    MEAP (Zhuang et al. 2025, arXiv:2502.07490, section 3): what it is to say stays as it is. `seed` decides which.
    """
    drawn = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
    return tokens.masked_fill((drawn < share).to(tokens.device), mask)
