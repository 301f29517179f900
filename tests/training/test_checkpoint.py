from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.bundle import read_weights
from s2s.training.checkpoint import average, checkpoints_in, load_training


def test_the_average_is_the_mean_of_every_weight(tmp_path: Path) -> None:
    folders = []
    for number in range(3):
        one = toy_bundle()
        with torch.no_grad():
            for parameter in one.model.parameters():
                parameter.add_(torch.randn_like(parameter))
        folders.append(tmp_path / f"checkpoints/epoch-{number:04d}")
        one.save(folders[-1])
    assert checkpoints_in([tmp_path]) == folders
    assert checkpoints_in([folders[1], folders[0]]) == [folders[1], folders[0]]
    found = average(folders).model.state_dict()
    for name, tensor in found.items():
        expected = torch.stack([read_weights(folder)[name] for folder in folders]).mean(0)
        torch.testing.assert_close(tensor, expected)


def test_the_average_of_one_is_that_one(tmp_path: Path) -> None:
    toy_bundle().save(tmp_path / "one")
    weights = read_weights(tmp_path / "one")
    assert all(torch.equal(t, weights[n]) for n, t in average([tmp_path / "one"]).model.state_dict().items())


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a bundle"):
        checkpoints_in([tmp_path])
    with pytest.raises(UserError, match="nothing to average"):
        average([])


def test_a_broken_training_state_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "training_state.pt").write_bytes(b"not a state")
    with pytest.raises(UserError, match=r"cannot resume from it .* delete"):
        load_training(tmp_path)


def test_a_training_state_cannot_carry_code(tmp_path: Path) -> None:
    torch.save({"progress": Path("x"), "optimizer": print}, tmp_path / "training_state.pt")
    with pytest.raises(UserError, match="cannot resume from it"):
        load_training(tmp_path)
