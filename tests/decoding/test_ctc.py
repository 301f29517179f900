from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_memory, toy_model

from s2s.decoding.ctc import CTCGreedySearch, ctc_greedy


@given(
    paths=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=4), more=st.integers(0, 3)
)
def test_labels_are_those_of_the_path_without_repeats_and_blanks(paths: list[list[int]], more: int) -> None:
    size = max(map(len, paths)) + more
    log_probs = torch.full((len(paths), size, 4), -5.0)
    for b, path in enumerate(paths):
        log_probs[b, range(len(path)), path] = -0.1
        log_probs[b, len(path) :, 3] = 0.0  # padding would say 3
    expected = [[label for label, _ in itertools.groupby(path) if label != 0] for path in paths]
    assert ctc_greedy(log_probs, torch.tensor([len(path) for path in paths])) == expected


def test_the_score_is_that_of_the_best_path() -> None:
    model, memory = toy_model(), toy_memory([6, 3])
    log_probs = model.ctc(memory)
    for b, (found, length) in enumerate(zip(CTCGreedySearch(model.ctc)(memory), [6, 3], strict=True)):
        best = log_probs[b, :length].amax(-1).sum().item()
        assert found[0].score == best
        assert found[0].scores == {"ctc": best}
