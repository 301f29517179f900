"""Training of language models on lines of text, and the commands around it."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import pytest
import torch
from conftest import Cli
from parallel_toy import sentences
from safetensors.torch import load_file
from trainings import quick, records, train

from s2s.errors import UserError
from s2s.models.lm_bundle import load_language_model
from s2s.tokenizers import train_tokenizer
from s2s.training.checkpoint import latest_training
from s2s.training.config import load_train_config
from s2s.training.interrupt import TrainingInterrupt
from s2s.training.loop import Trainer

MODELS = {
    "transformer": ["model=transformer_lm", "model.num_layers=1", "model.num_heads=2", "model.feed_forward_dim=32"],
    "no positions": [
        "model=transformer_lm",
        "model.num_layers=2",
        "model.num_heads=2",
        "model.feed_forward_dim=32",
        "model.positions=none",
        "model.tie_output=true",
    ],
    "lstm": ["model=lstm_lm", "model.num_layers=2"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 sentences of invented words, 30 to validate on, and a tokenizer of them."""
    folder = tmp_path_factory.mktemp("lines")
    text = sentences(230)
    (folder / "train.txt").write_text("\n".join(text[:200]) + "\n", encoding="utf-8")
    (folder / "dev.txt").write_text("\n".join(text[200:]) + "\n", encoding="utf-8")
    train_tokenizer("bpe", text, 60).save(folder / "tokenizer")
    return folder


def options(data: Path, kind: str, *more: str) -> list[str]:
    return [
        f"tokenizer={data / 'tokenizer'}",
        f"text.train=[{data / 'train.txt'}]",
        f"text.valid=[{data / 'dev.txt'}]",
        "text.max_batch_tokens=300",
        *MODELS[kind],
        "model.model_dim=32",
        *quick(),
        *more,
    ]


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_falls_below_that_of_a_uniform_guess_and_what_is_kept_has_it(
    kind: str, data: Path, tmp_path: Path
) -> None:
    said = train("train_lm", tmp_path, options(data, kind))
    assert "on 200 sentences, validating on 30" in said[1]
    found = records(tmp_path)
    assert found[-1]["valid_loss"] < found[0]["valid_loss"] < math.log(60)
    bundle = load_language_model(max((tmp_path / "checkpoints").iterdir()))
    total = count = 0.0
    for line in (data / "dev.txt").read_text(encoding="utf-8").splitlines():
        ids = torch.tensor([bundle.tokenizer.encode(line)])
        total += bundle.model.loss(ids, torch.tensor([ids.size(1)])).item() * (ids.size(1) + 1)
        count += ids.size(1) + 1
    assert found[-1]["valid_loss"] == pytest.approx(total / count, abs=1e-5)


def test_a_stopped_training_goes_on_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("train_lm", tmp_path / "whole", options(data, "lstm"))
    config = load_train_config("train_lm", [f"exp_dir={tmp_path / 'cut'}", *options(data, "lstm")])
    trainer = Trainer(config, lambda text: None)
    step = trainer._step
    monkeypatch.setattr(
        trainer, "_step", lambda: (trainer.at.steps == 5 and signal.raise_signal(signal.SIGTERM)) or step()
    )
    with pytest.raises(TrainingInterrupt):
        trainer.run()
    train("train_lm", tmp_path / "cut", options(data, "lstm"))
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    ours, theirs = (
        load_file(latest_training(tmp_path / name / "states") / "model.safetensors")  # type: ignore[operator]
        for name in ("cut", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_bfloat16_trains_too(data: Path, tmp_path: Path) -> None:
    more = ["training.precision=bf16-mixed", "training.max_epochs=1"]
    for kind in ("lstm", "transformer"):
        train("train_lm", tmp_path / kind, options(data, kind, *more))
        assert records(tmp_path / kind)[0]["valid_loss"] < math.log(60)


def test_average_bundle_and_its_card(data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    train("train_lm", tmp_path / "exp", options(data, "lstm"))
    code, _, error = s2s_cli("average", tmp_path / "exp", "--out", tmp_path / "averaged")
    assert code == 0, error
    code, _, error = s2s_cli("bundle", tmp_path / "averaged", "--out", tmp_path / "lm", "--title", "Words")
    assert code == 0, error
    card = (tmp_path / "lm/README.md").read_text()
    assert "LSTMLanguageModel" in card
    assert "decoding.lm=lm" in card
    assert load_language_model(tmp_path / "lm").tokenizer.vocab_size == 60
    code, out, error = s2s_cli("info", tmp_path / "exp")
    assert code == 0, error
    assert "last wrong next tokens" in out
    assert "LSTMLanguageModel" in out


def test_files_are_balanced_by_temperature(data: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("Nachts ist es kalt .\n" * 20, encoding="utf-8")
    more = [f"text.train=[{data / 'train.txt'},{tmp_path / 'more.txt'}]", "text.temperature=100"]
    trainer = Trainer(
        load_train_config("train_lm", [f"exp_dir={tmp_path}", *options(data, "lstm", *more)]), lambda text: None
    )
    seen = [name for batch in trainer.task.training_batches(0, 0, 0, 1) for name in batch.ids]
    share = sum("more.txt" in name for name in seen) / len(seen)
    assert 0.45 < share < 0.55


def test_empty_and_long_lines_are_counted(data: Path, tmp_path: Path) -> None:
    text = (data / "train.txt").read_text(encoding="utf-8") + "\n \n" + "Hund " * 300 + "\n"
    (tmp_path / "train.txt").write_text(text, encoding="utf-8")
    more = [f"text.train=[{tmp_path / 'train.txt'}]", "text.max_length=250", "training.max_epochs=1"]
    said = train("train_lm", tmp_path / "exp", options(data, "lstm", *more))
    assert said[0] == "text.train: left out: 2 empty, 1 of more than 250 tokens"
    assert "on 200 sentences" in said[2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["text.train=[]"], r"text\.train is empty; name at least one file of text"),
        (["text.train=[nowhere.txt]"], r"nowhere\.txt: cannot read it"),
        (["text.max_length=1"], r"text\.train: no sentences are left of"),
        (["task=translation"], r"model\._target_: expected .*EncoderDecoder"),
        (["model.num_layers=0"], r"num_layers=0: expected at least 1"),
    ],
)
def test_what_cannot_be_trained_is_named(overrides: list[str], message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train("train_lm", tmp_path, options(data, "lstm", *overrides))


def test_another_model_is_no_language_model(data: Path, tmp_path: Path) -> None:
    config = ["model=transformer_translation", *options(data, "lstm")[:3]]
    with pytest.raises(UserError, match=r"expected a language model for task=language_model.*got EncoderDecoder"):
        train("train_lm", tmp_path, config)


def test_a_line_that_is_not_utf8_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"gut\nschl\xe4cht\n")
    with pytest.raises(UserError, match=r"bad\.txt:2: not UTF-8"):
        train("train_lm", tmp_path, options(data, "lstm", f"text.train=[{tmp_path / 'bad.txt'}]"))
