from __future__ import annotations

import torch

from s2s.nn.lengths import right_to_left, valid_mask


def test_a_mask_is_true_up_to_the_length() -> None:
    assert valid_mask(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_turning_round_leaves_padding_in_its_place() -> None:
    target, lengths = torch.tensor([[4, 5, 6], [4, 5, 9], [9, 8, 7]]), torch.tensor([3, 2, 0])
    assert right_to_left(target, lengths).tolist() == [[6, 5, 4], [5, 4, 9], [9, 8, 7]]
    assert right_to_left(target[:, :0], torch.zeros(3, dtype=torch.long)).shape == (3, 0)


def test_frames_are_turned_round_as_tokens_are() -> None:
    x, lengths = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 2, 0])
    turned = right_to_left(x, lengths)
    for i in range(4):
        assert torch.equal(turned[..., i], right_to_left(x[..., i], lengths))
