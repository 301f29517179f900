"""Batch sizes that are measured: the search, the trials, what is kept, and what happens when it was wrong."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.data.batch_sizes import load_sizes
from s2s.errors import UserError
from s2s.training.calibrate import calibrated, estimate, largest
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer
from s2s.training.memory import fixed_bytes, in_parts, kept_bytes, synthetic
from s2s.training.tasks import make_task


@given(st.integers(0, 5000), st.integers(1, 4000))
def test_the_largest_size_is_found_to_a_sixteenth_by_few_trials(fitting: int, most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= fitting

    found = largest(fits, 0, most)
    best = min(fitting, most)
    assert best - max(1, best // 16) <= found <= best or (found, best) == (1, 1) or found == best
    assert found >= 1 or best == 0
    assert len(tried) <= 20
    assert all(1 <= size <= most for size in tried)


def test_shapes_are_measured_from_the_largest_and_no_smaller_one_gets_less() -> None:
    tops = [(source, target) for source in (2.0, 4.0, 8.0) for target in (10.0, 20.0)]
    tried: list[tuple[tuple[float, float], int]] = []

    def fits(top: tuple[float, float], size: int) -> bool:
        tried.append((top, size))
        return size * (top[0] * 3 + top[1]) <= 500

    sizes = calibrated(tops, fits, 1000, lambda text: None)
    for top, size in zip(sizes.tops, sizes.sizes, strict=True):
        assert size * (top[0] * 3 + top[1]) <= 500 < (size + max(2, size // 8)) * (top[0] * 3 + top[1])
    first = tried[0]
    assert first == ((8.0, 20.0), 1)
    assert all(size > 1 for top, size in tried if top != (8.0, 20.0))  # known to fit from the larger shape
    with pytest.raises(UserError, match=r"not even one utterance of 8\.0 and 20 target tokens"):
        calibrated(tops, lambda top, size: False, 9, lambda text: None)


@pytest.fixture(scope="module")
def task(tiny: list[str]) -> Any:
    made = make_task(load_train_config("train", ["exp_dir=nowhere", *tiny]))
    made.load(lambda text: None)
    made.bundle.model.train()
    return made


def test_synthetic_batches_have_the_shape_that_is_asked_for(task: Any) -> None:
    example = task.sizing().example
    for size, source, target in itertools.product((1, 7), (50, 300), (1, 9)):
        made = synthetic(example, size, source, target)
        assert made.source.shape == (size, source, 23)
        assert made.target.shape == (size, target)
        assert made.source_lengths.tolist() == [source] * size
        assert len(made) == len(made.texts) == size
        assert task.losses(task.bundle.model, made, 0).total.isfinite() or target > source // 8


def test_what_is_kept_for_the_backward_pass_grows_with_the_batch_and_is_told(task: Any) -> None:
    model, example = task.bundle.model, task.sizing().example
    kept = [kept_bytes(model, lambda n=n: task.losses(model, synthetic(example, n, 100, 4), 0)) for n in (2, 4, 8)]
    assert kept[2] - kept[1] == pytest.approx(2 * (kept[1] - kept[0]), rel=0.1)
    weights = sum(p.numel() * 4 for p in model.parameters())
    assert fixed_bytes(model) >= 4 * weights
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.get_rng_state()
    assert estimate(task, torch.device("cpu")).startswith("memory: about 0.")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)


def test_auto_measures_once_keeps_it_beside_the_data_and_trains(
    digits: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("wav.scp", "text", "utt2spk"):
        (data / name).write_text((digits / "train" / name).read_text())
    options = [
        *tiny,
        f"data.train=[{data}]",
        "batch=auto",
        "memory=0.5",
        "training.max_epochs=1",
        "data.max_batch_size=20",
    ]
    said: list[str] = []
    Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'one'}", *options]), said.append).run()
    assert any("measuring what fits into 0.5 GB on cpu" in line for line in said)
    assert any("memory: about" in line for line in said)
    kept = load_sizes(tmp_path / "one" / "batch_sizes.json", "training")
    assert kept is not None
    assert max(kept.sizes) == 20  # no more than data.max_batch_size
    said.clear()
    monkeypatch.setattr("s2s.training.calibrate._Child", None)  # must not be needed
    Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'two'}", *options]), said.append)
    assert any(f"sizes from {data / 'batch_sizes.json'}" in line for line in said)


def test_out_of_memory_halves_what_goes_through_at_once_and_the_training_is_the_same(
    tiny: list[str], tmp_path: Path
) -> None:
    chances = ["model.encoder.dropout=0", "model.decoder.dropout=0", "spec_augment.num_freq_masks=0"]
    options = [*tiny, *chances, "spec_augment.num_time_masks=0", "training.max_epochs=1"]
    plain = Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'plain'}", *options]), lambda text: None)
    said: list[str] = []
    tight = Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'tight'}", *options]), said.append)
    forward, rows = tight.bundle.model.forward, list[int]()

    def small(source: torch.Tensor, *others: Any) -> Any:
        rows.append(len(source))
        if len(source) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(source, *others)

    tight.bundle.model.forward = small  # type: ignore[method-assign]
    plain.run()
    tight.run()
    told = [line for line in said if "out of memory" in line]
    assert 2 <= len(told) <= 8
    assert "at most 6 of this length" in told[0]
    assert "at most 3 of this length" in told[1]
    assert tight.at.steps == plain.at.steps == 4
    assert tight.at.limits
    one, other = plain.records[0], tight.records[0]
    assert other["train_loss"] == pytest.approx(one["train_loss"], rel=0.05)  # batch norms see other batches
    batch = synthetic(plain.task.sizing().example, 10, 200, 4)
    parts = in_parts(batch, [(150, 3, 4)])
    assert [len(part) for part, _ in parts] == [4, 4, 2]
    assert sum(share for _, share in parts) == pytest.approx(1.0)
    assert len(in_parts(batch, [(201, 3, 4)])) == 1


def test_what_makes_no_sense_is_named(tiny: list[str]) -> None:
    with pytest.raises(UserError, match=r"batch=many: expected fixed"):
        load_train_config("train", [*tiny, "batch=many"])
    with pytest.raises(UserError, match=r"memory=-1.*gigabytes"):
        load_train_config("train", [*tiny, "memory=-1"])
