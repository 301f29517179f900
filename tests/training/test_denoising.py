"""Pretraining by denoising, then translation from there; masks in what a decoder is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Cli
from parallel_toy import sentences
from safetensors.torch import load_file
from trainings import quick, records, small_translation, train

from s2s.data.denoising import masked
from s2s.errors import UserError
from s2s.models.language_model import cross_entropy, teacher_forced
from s2s.tokenizers import JointTokenizer, train_tokenizer
from s2s.training.checkpoint import latest_training
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 sentences of invented words and the same in capitals, 20 to validate on, and tokenizers of both."""
    folder = tmp_path_factory.mktemp("text")
    text = sentences(120)
    for part, lines in (("train", text[:100]), ("dev", text[100:])):
        (folder / part).mkdir()
        (folder / part / "text.de").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / part / "text.up").write_text("\n".join(lines).upper() + "\n", encoding="utf-8")
    both = [*text, *(line.upper() for line in text)]
    JointTokenizer(train_tokenizer("bpe", both, 100)).save(folder / "tokenizer")
    JointTokenizer(train_tokenizer("bpe", both, 100), ["de", "up"]).save(folder / "prompted")
    JointTokenizer(train_tokenizer("bpe", both, 100), ["de", "up"], ["translate"]).save(folder / "translate")
    return folder


def options(data: Path, *more: str) -> list[str]:
    return [*small_translation(data, "tokenizer"), "text.pairs=[de-up]", *more]


def losses(folder: Path) -> list[float]:
    return [record["valid_loss"] for record in records(folder)]


def test_a_model_learns_both_languages_and_a_training_begins_with_it(data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    said = train("train_translation", tmp_path / "pretrain", options(data, "task=denoising"))
    assert "on 200 sentences, validating on 40" in said[1]
    assert losses(tmp_path / "pretrain")[1] < losses(tmp_path / "pretrain")[0]
    train("train_translation", tmp_path / "again", options(data, "task=denoising"))
    assert losses(tmp_path / "again") == losses(tmp_path / "pretrain")
    code, _, error = s2s_cli("average", tmp_path / "pretrain", "--out", tmp_path / "pretrained")
    assert code == 0, error
    said = train("train_translation", tmp_path / "train", options(data, f"training.init={tmp_path / 'pretrained'}"))
    assert "tensors taken" in said[0]
    assert not any("new:" in line or "left as they are" in line for line in said)
    code, _, error = s2s_cli(
        "translate", "--model", tmp_path / "pretrained", "--output", tmp_path / "out", data / "dev/text.de"
    )
    assert code == 0, error


def test_several_sentences_are_an_example_and_prompts_say_the_language(data: Path, tmp_path: Path) -> None:
    more = ["task=denoising", "denoising.sentences=4", "training.max_epochs=1", f"tokenizer={data / 'prompted'}"]
    said = train("train_translation", tmp_path, options(data, *more))
    assert "on 50 sentences, validating on 10" in said[1]
    with pytest.raises(UserError, match=r"text\.pairs: de-de: task 'transcribe': the model has no token"):
        train("train_translation", tmp_path / "no", options(data, *more, f"tokenizer={data / 'translate'}"))


def test_masks_of_the_decoder_change_what_it_is_given_and_not_what_it_is_to_say(data: Path, tmp_path: Path) -> None:
    config = load_train_config(
        "train_translation",
        [f"exp_dir={tmp_path}", *options(data, "text.decoder_mask=0.5", "model.encoder.dropout=0")],
    )
    task = Trainer(config, lambda text: None).task
    model = task.bundle.model.train()
    batch = next(iter(task.training_batches(0, 0, 0, 1)))
    found = task.losses(model, batch, 7).total
    tokens, labels, counted = teacher_forced(batch.target, batch.target_lengths, 2, 3)
    given = torch.cat((tokens[:, :1], masked(batch.target, 0.5, 0, 7)), dim=1)
    assert (given == 0).float().mean() > 0.3
    log_probs = model.decoder(model.encode(batch.source, batch.source_lengths), given)
    torch.testing.assert_close(found, cross_entropy(log_probs, labels, counted, 0.1))
    assert not torch.allclose(found, task.losses(model, batch, 8).total)


@pytest.mark.parametrize("name", ["train_translation", "train_lm"])
def test_a_training_with_masks_is_the_same_again(name: str, data: Path, tmp_path: Path) -> None:
    more = ["text.decoder_mask=0.15", "training.max_epochs=1"]
    overrides = options(data, *more)
    if name == "train_lm":
        small = ["model.model_dim=16", "model.num_layers=1", "model.num_heads=2", "model.feed_forward_dim=16"]
        files = [f"text.{key}=[{data / part / 'text.de'}]" for key, part in (("train", "train"), ("valid", "dev"))]
        overrides = [f"tokenizer={data / 'tokenizer'}", *files, *small, *quick(), *more]
    for number in ("1", "2"):
        train(name, tmp_path / number, overrides)
    ours, theirs = (load_file(latest_training(tmp_path / n / "states") / "model.safetensors") for n in ("1", "2"))  # type: ignore[operator]
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_wrong_share_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"text\.decoder_mask is 1\.5; expected a share"):
        train("train_translation", tmp_path, options(data, "text.decoder_mask=1.5"))
    with pytest.raises(UserError, match=r"denoising\.mask_share is -1"):
        train("train_translation", tmp_path, options(data, "task=denoising", "denoising.mask_share=-1"))
