"""Training of text translation on real captions, and the commands around it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch
import trainings
from conftest import Cli
from safetensors.torch import load_file
from trainings import records, small_translation, write_captions

from s2s.errors import UserError
from s2s.models.translation_bundle import load_translation_bundle
from s2s.tokenizers import JointTokenizer, train_tokenizer
from s2s.training.checkpoint import latest_training
from s2s.training.config import load_train_config
from s2s.training.interrupt import TrainingInterrupt
from s2s.training.loop import Trainer


@pytest.fixture(scope="module")
def data(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 captions in three languages, 20 more to validate on, and tokenizers of them."""
    folder = tmp_path_factory.mktemp("captions")
    text = write_captions(data_root, folder, 120, 20)
    JointTokenizer(train_tokenizer("bpe", text, 300)).save(folder / "one")
    JointTokenizer(train_tokenizer("bpe", text, 300), ["en", "de", "fr"], ["translate"]).save(folder / "several")
    return folder


def options(data: Path, *more: str, tokenizer: str = "one") -> list[str]:
    kept = ["training.keep_best=1", "training.keep_last=2", "optim.warmup_steps=20", "training.max_epochs=3"]
    return [*small_translation(data, tokenizer), *kept, *more]


def train(folder: Path, overrides: list[str]) -> list[str]:
    return trainings.train("train_translation", folder, overrides)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    said = train(folder, options(data))
    assert "on 120 sentences, validating on 20" in said[1]
    return folder


def test_the_loss_falls_and_the_last_checkpoints_are_kept(whole: Path) -> None:
    found = records(whole)
    assert found[-1]["valid_loss"] < found[0]["valid_loss"]
    assert 0.0 < found[-1]["valid_token_error"] < 1.0
    assert {f"epoch-{number:04d}" for number in (2, 3)} <= {path.name for path in (whole / "checkpoints").iterdir()}
    assert (whole / "curves.png").is_file()


def test_a_stopped_training_goes_on_to_the_same_weights(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(
        load_train_config("train_translation", [f"exp_dir={tmp_path}", *options(data)]), lambda text: None
    )
    step = trainer._step
    monkeypatch.setattr(
        trainer, "_step", lambda: (trainer.at.steps == 8 and signal.raise_signal(signal.SIGTERM)) or step()
    )
    with pytest.raises(TrainingInterrupt):
        trainer.run()
    said = train(tmp_path, options(data))
    assert any(line.startswith("resuming") for line in said)
    assert records(tmp_path) == records(whole)
    ours, theirs = (load_file(latest_training(folder / "states") / "model.safetensors") for folder in (tmp_path, whole))  # type: ignore[operator]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_average_translate_score_and_bundle(whole: Path, data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    code, out, error = s2s_cli("average", str(whole), "--last", "2", "--out", str(tmp_path / "averaged"))
    assert code == 0, error
    assert "the mean of 2 checkpoints (epoch-0002, epoch-0003)" in out
    source, text = data / "dev/text.en", tmp_path / "text"
    code, _, error = s2s_cli("translate", "--model", str(tmp_path / "averaged"), "--output", str(text), str(source))
    assert code == 0, error
    assert len(text.read_text().splitlines()) == 20
    code, out, error = s2s_cli("bundle", str(tmp_path / "averaged"), "--out", str(tmp_path / "bundle"))
    assert code == 0, error
    card = (tmp_path / "bundle/README.md").read_text()
    assert "s2s translate --model bundle text.txt" in card
    assert "EncoderDecoder" in card


def test_one_embedding_is_shared_and_stays_so(data: Path, whole: Path) -> None:
    trainer = Trainer(load_train_config("train_translation", [f"exp_dir={whole}", *options(data)]), lambda text: None)
    model = trainer.bundle.model
    assert model.encoder.front.embedding is model.decoder.embedding  # type: ignore[attr-defined]
    loaded = load_translation_bundle(latest_training(whole / "states")).model.state_dict()  # type: ignore[arg-type]
    assert torch.equal(loaded["encoder.front.embedding.weight"], loaded["decoder.embedding.weight"])


def test_several_languages_need_prompts(data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    with pytest.raises(UserError, match=r"text\.pairs: a model that writes de, fr has to be told which"):
        train(tmp_path / "a", options(data, "text.pairs=[en-de,en-fr]"))
    with pytest.raises(UserError, match=r"text\.pairs: de-cs: language 'cs': .* It knows en, de, fr"):
        train(tmp_path / "a", options(data, "text.pairs=[de-cs]", tokenizer="several"))
    layers = "language_layers={num_languages: 3, source: [1]}"
    more = ["text.pairs=[en-de,en-fr,de-en]", f"model.encoder.{layers}", f"model.decoder.{layers}"]
    said = train(tmp_path / "b", options(data, *more, "text.plain_share=0.5", tokenizer="several"))
    assert "on 360 sentences" in said[1]
    found = records(tmp_path / "b")
    assert found[-1]["valid_loss"] < found[0]["valid_loss"]
    model = max((tmp_path / "b/checkpoints").iterdir())
    command = ["translate", "--model", str(model), "--output", str(tmp_path / "text"), str(data / "dev/text.en")]
    for more, message in {
        (): "name both, the source too (--source-language): en, de, fr",
        ("--source-language", "en"): "name both, the target too (--target-language)",
        ("--source-language", "en", "--target-language", "cs"): "language 'cs': the model has no token for it",
        ("--source-language", "ed", "--target-language", "de"): "Did you mean 'en'? It knows en, de, fr",
    }.items():
        code, _, error = s2s_cli(*command, *more)
        assert code == 1
        assert message in error
    for more in (("de",), ("fr",), ("fr", "--no-punctuation")):  # fr from en, and the same in another way
        assert s2s_cli(*command, "--source-language", "en", "--target-language", *more)[0] == 0
        assert len((tmp_path / "text").read_text().splitlines()) == 20


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["text.train=[]"], r"text\.train is empty"),
        (["task=translaton"], r"task=translaton: expected one of .* Did you mean 'translation'\?"),
        (["task=recognition"], r"model\._target_: expected .*HybridModel"),
        (["text.max_length=1"], r"text\.train: no sentences are left"),
        (["model.consistency=-1"], r"consistency=-1"),
    ],
)
def test_what_cannot_be_trained_is_named(overrides: list[str], message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path, options(data, *overrides))


def test_empty_and_long_sentences_are_counted(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "train", tmp_path / "train")
    with (tmp_path / "train/text.en").open("a") as en, (tmp_path / "train/text.de").open("a") as de:
        en.write("\nA " + "very " * 80 + "long one.\n")
        de.write("Leer.\nKurz.\n")
    more = [f"text.train=[{tmp_path / 'train'}]", "text.max_length=60", "training.max_epochs=1"]
    said = train(tmp_path / "exp", options(data, *more))
    assert said[0] == "text.train: left out: 1 empty, 1 of more than 60 tokens"
    assert "on 120 sentences" in said[2]
