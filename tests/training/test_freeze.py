from __future__ import annotations

import pytest
import torch
from torch import nn
from toy import toy_model

from s2s.errors import UserError
from s2s.training.freeze import freeze, learning_parameters


def frozen(patterns: list[str]) -> set[str]:
    model = toy_model()
    freeze(model, patterns)
    assert all(not p.requires_grad for name, p in model.named_parameters() if name not in learning_parameters(model))
    return {name for name, _ in model.named_parameters()} - learning_parameters(model).keys()


def below(*starts: str) -> set[str]:
    return {name for name, _ in toy_model().named_parameters() if name.startswith(starts)}


@pytest.mark.parametrize(
    ("patterns", "starts"),
    [
        ([], ()),
        (["encoder"], ("encoder.",)),
        (["encoder.blocks.1", "ctc"], ("encoder.blocks.1.", "ctc.")),
        (["decoder.layers.*.self_attention"], ("decoder.layers.0.self_attention.", "decoder.layers.1.self_attention.")),
        (["decoder.layers.?.norm_*"], ("decoder.layers.0.norm_", "decoder.layers.1.norm_")),
        (["decoder.embedding.weight"], ("decoder.embedding.weight",)),
    ],
)
def test_a_pattern_stands_for_all_below_what_it_names(patterns: list[str], starts: tuple[str, ...]) -> None:
    assert frozen(patterns) == (below(*starts) if starts else set())


def test_a_star_stays_within_its_part_of_the_name() -> None:
    with pytest.raises(UserError, match=r"'encoder\.\*\.weight' names no parameter"):
        freeze(toy_model(), ["encoder.*.weight"])  # a linear layer's weight is further down


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("encodr", r"Did you mean 'encoder'\?"),
        ("decoder.layers.*.self_atention", r"Did you mean 'decoder\.layers\.\d\.self_attention'\?"),
        ("enc", r"Expected one of encoder, decoder, ctc, or names below them, such as encoder\."),
    ],
)
def test_a_pattern_that_names_nothing_is_refused_with_what_comes_near(pattern: str, near: str) -> None:
    with pytest.raises(UserError, match=near):
        freeze(toy_model(), ["ctc", pattern])


def test_something_must_be_left_to_train() -> None:
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze(toy_model(), ["*"])


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False))
        self.above = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))


def test_batch_norms_of_what_is_frozen_are_given_back_those_without_parameters_too() -> None:
    model = Normed()
    norms = freeze(model, ["below"])
    assert norms == [model.below[1], model.below[2]]
    model.train()
    for norm in norms:
        norm.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.above(model.below(torch.randn(8, 3) + 5.0))
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved == {"above.0.running_mean", "above.0.running_var", "above.0.num_batches_tracked"}


def test_a_shared_parameter_is_frozen_by_either_name() -> None:
    for pattern in ("0", "1"):
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        second.weight = first.weight
        freeze(nn.Sequential(first, second), [f"{pattern}.weight"])
        assert not first.weight.requires_grad
