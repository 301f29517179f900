"""An exponential moving average of the weights, which is validated and kept in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from s2s.training.freeze import learning_parameters


class MovingAverage:
    """a <- d a + (1 - d) w after every step, of all weights that are learned (Polyak and Juditsky 1992).

    d is (1 + n) / (10 + n) after n steps, at most `decay`: the first weights are forgotten soon. A `decay` of 0 keeps
    no average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = learning_parameters(model) if decay else {}
        self.averages = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._is_in_place = False

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after so many steps."""
        if self.averages:
            decay = min(self.decay, (1 + steps) / (10 + steps))
            torch._foreach_lerp_(list(self.averages.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def in_place(self, wanted: bool = True) -> Iterator[None]:
        """Here the model has the averages, or else the weights that are learned, whatever it had before."""
        before = self._is_in_place
        self._put(wanted)
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, wanted: bool) -> None:
        if wanted == self._is_in_place:
            return
        self._is_in_place = wanted
        for name, average in self.averages.items():
            weight = self._weights[name]
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def load(self, averages: dict[str, Tensor]) -> None:
        """Take up what was saved."""
        for name, average in averages.items():
            self.averages[name].copy_(average)
