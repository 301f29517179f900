from __future__ import annotations

import torch

from s2s.nn.embedding import TokenFront


def test_tokens_become_their_rows_times_the_root_of_the_width() -> None:
    tokens, lengths = torch.tensor([[4, 0, 4], [1, 2, 0]]), torch.tensor([3, 2])
    for scale, factor in ((True, 3.0), (False, 1.0)):
        front = TokenFront(5, 9, scale)
        found, found_lengths = front(tokens, lengths)
        torch.testing.assert_close(found, factor * front.embedding.weight[tokens])
        assert torch.equal(found_lengths, lengths)
        assert torch.equal(front.output_lengths(lengths), lengths)
