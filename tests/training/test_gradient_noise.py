"""Noise on the gradients: of what deviation, the same for the same step, and in a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from s2s.training.checkpoint import latest_training
from s2s.training.config import load_train_config
from s2s.training.gradient_noise import add_gradient_noise
from s2s.training.loop import Trainer


@pytest.mark.parametrize(("eta", "steps"), [(1.0, 0), (0.3, 1), (0.01, 5000)])
def test_its_variance_is_that_of_the_equation(eta: float, steps: int) -> None:
    parameters = [nn.Parameter(torch.zeros(500, 400)), nn.Parameter(torch.zeros(3))]
    parameters[0].grad = torch.full((500, 400), 2.0)
    add_gradient_noise(parameters, eta, steps, seed=1)
    noise = parameters[0].grad - 2.0
    assert float(noise.var()) == pytest.approx(eta / (1 + steps) ** 0.55, rel=0.02)
    assert abs(float(noise.mean())) < 5 * (float(noise.var()) / noise.numel()) ** 0.5
    assert parameters[1].grad is None  # what has no gradient gets none


def test_it_is_the_same_for_the_same_step_and_leaves_other_chance_alone() -> None:
    def noise(steps: int, seed: int) -> torch.Tensor:
        parameter = nn.Parameter(torch.zeros(4))
        parameter.grad = torch.zeros(4)
        add_gradient_noise([parameter], 0.5, steps, seed)
        return parameter.grad

    before = torch.get_rng_state()
    assert torch.equal(noise(3, 1), noise(3, 1))
    assert not torch.equal(noise(3, 1), noise(4, 1))
    assert not torch.equal(noise(3, 1), noise(3, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_with_it_is_another_one_and_that_is_repeated(tiny: list[str], tmp_path: Path) -> None:
    weights = []
    for name, noise in (("without", 0.0), ("with", 1e-4), ("again", 1e-4)):
        options = [f"exp_dir={tmp_path / name}", *tiny, "training.max_epochs=1", f"optim.gradient_noise={noise}"]
        Trainer(load_train_config("train", options), lambda text: None).run()
        saved = latest_training(tmp_path / name / "states")
        assert saved is not None
        weights.append(load_file(saved / "model.safetensors"))
    key = "decoder.out.weight"
    assert torch.equal(weights[1][key], weights[2][key])
    assert not torch.equal(weights[0][key], weights[1][key])
