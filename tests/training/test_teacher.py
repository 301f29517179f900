"""Training with a teacher, on real digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle
from s2s.tokenizers.load import train_tokenizer
from s2s.training.config import load_train_config
from s2s.training.tasks import make_task
from s2s.training.teacher import DistillationConfig, Teacher


def test_a_teacher_has_its_share_of_the_loss_and_stays_as_it_was(tiny: list[str], tmp_path: Path) -> None:
    teacher = make_task(load_train_config("train", [*tiny, "training.seed=5"])).bundle
    teacher.save(tmp_path / "bundle")
    losses = {}
    for weight in (None, 0.5, 1.0):
        told = (
            [] if weight is None else [f"distillation.teacher={tmp_path / 'bundle'}", f"distillation.weight={weight}"]
        )
        task = make_task(load_train_config("train", [*tiny, *told]))
        task.load(print)
        batch = next(iter(task.training_batches(0, 0, 0, 1, ())))
        task.bundle.model.eval()  # no dropout, so that losses can be compared
        losses[weight] = task.losses(task.bundle.model, batch, 1)
        losses[weight].total.backward()
    alone, half, whole = (losses[weight].parts["ctc"].detach() for weight in (None, 0.5, 1.0))
    torch.testing.assert_close(half, (alone + whole) / 2)
    assert float((whole - alone).abs()) > 1e-3
    saved = load_bundle(tmp_path / "bundle").model.state_dict()
    own = task.teacher.model  # type: ignore[attr-defined]
    assert all(torch.equal(saved[name], tensor) for name, tensor in own.state_dict().items())
    assert all(parameter.grad is None for parameter in own.parameters())


def saved(bundle: Bundle, folder: Path) -> DistillationConfig:
    bundle.save(folder / "bundle")
    return DistillationConfig(str(folder / "bundle"))


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    teacher = toy_bundle()
    teacher.tokenizer = train_tokenizer("char", ["ane twa"])
    with pytest.raises(UserError, match=r"distillation\.teacher=.*bundle: it has another tokenizer"):
        Teacher(saved(teacher, tmp_path), toy_bundle())


def test_other_frames_are_refused_unless_they_are_not_taught(tmp_path: Path) -> None:
    config = saved(toy_bundle(), tmp_path)
    student = toy_bundle()
    student.model.encoder.subsampling_factor = 8  # type: ignore[attr-defined, misc]
    with pytest.raises(
        UserError, match=r"one frame of 4, here of 8\); expected the same, or distillation\.frames=false"
    ):
        Teacher(config, student)
    assert not Teacher(DistillationConfig(config.teacher, frames=False), student).frames


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.0}, r"distillation\.weight=0\.0: expected a share"),
        ({"temperature": 0.0}, r"distillation\.temperature=0\.0: expected more than 0"),
        ({"tokens": False, "frames": False}, r"neither tokens nor frames are taught"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DistillationConfig("bundle", **options)  # type: ignore[arg-type]
