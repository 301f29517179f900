"""Rows of many languages together go through the feed-forward of their own, as if each language were alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from s2s.errors import UserError
from s2s.nn.language_feed_forward import SOURCE, TARGET, LanguageFeedForward, LanguageLayersConfig, of_languages

LANGUAGES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6)


def module(side: int) -> LanguageFeedForward:
    torch.manual_seed(0)
    return LanguageFeedForward(3, side, 4, 8, 0.1, nn.ReLU()).double().eval()


@given(languages=LANGUAGES, rows=st.integers(1, 3), side=st.sampled_from([SOURCE, TARGET]))
@settings(max_examples=15)
def test_each_row_goes_through_its_own(languages: list[tuple[int, int]], rows: int, side: int) -> None:
    layer, table = module(side), torch.tensor(languages)
    x = torch.randn(rows * len(languages), 5, 4, dtype=torch.float64, requires_grad=True)
    found = layer(x, table)
    assert found.shape == x.shape
    for row, of_row in enumerate(found):
        alone = layer.of_language[languages[row // rows][side]](x[row])
        torch.testing.assert_close(of_row, alone, rtol=0, atol=1e-14)
    found.sum().backward()
    unused = set(range(3)) - {pair[side] for pair in languages}
    for number, own in enumerate(layer.of_language):
        assert (own.expand.weight.grad is None) == (number in unused)  # type: ignore[union-attr]


def test_layers_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match=r"language_layers\.target: layer 3; expected 1 to 2"):
        of_languages(LanguageLayersConfig(2, target=[3]), 2, 4, 8, 0.1, nn.ReLU())
    with pytest.raises(UserError, match=r"both name layer 1"):
        LanguageLayersConfig(2, source=[1, 2], target=[1])
    with pytest.raises(UserError, match=r"num_languages=0"):
        LanguageLayersConfig(0)
    with pytest.raises(UserError, match=r"has to be told the languages"):
        module(SOURCE)(torch.zeros(1, 1, 4), None)
    with pytest.raises(UserError, match=r"num_languages=3: expected as many as the tokenizer has"):
        module(SOURCE)(torch.zeros(1, 1, 4, dtype=torch.float64), torch.tensor([[3, 0]]))
