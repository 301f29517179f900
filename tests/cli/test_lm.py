from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import Cli
from parallel_toy import sentences
from safetensors.torch import load_file
from toy import toy_bundle

from s2s.models.lm_bundle import LanguageModelBundle
from s2s.models.lstm_language_model import LSTMLanguageModel
from s2s.tokenizers import train_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, an n-gram model of it and an LSTM that knows nothing, of one tokenizer."""
    folder = tmp_path_factory.mktemp("lm")
    text = sentences(300)
    (folder / "train.txt").write_text("\n".join(text[:280]) + "\n", encoding="utf-8")
    (folder / "test.txt").write_text("\n".join(text[280:]) + "\n\n", encoding="utf-8")
    (folder / "kaldi").write_text("".join(f"u{i} {line}\n" for i, line in enumerate(text[280:])), encoding="utf-8")
    tokenizer = train_tokenizer("bpe", text, 60)
    tokenizer.save(folder / "tokenizer")
    config = {
        "_target_": "s2s.models.lstm_language_model.LSTMLanguageModel",
        "vocab_size": 60,
        "model_dim": 8,
        "num_layers": 1,
    }
    model = LSTMLanguageModel(60, 8, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    LanguageModelBundle(model, tokenizer, config).save(folder / "lm")
    return folder


def ngram(folder: Path, cli: Cli) -> Path:
    arpa = folder / "lm.arpa"
    code, _, error = cli(
        "lm", "ngram", folder / "train.txt", "--tokenizer", folder / "tokenizer", "--order", 3, "--out", arpa,
        "--discount-fallback",
    )  # fmt: skip
    assert code == 0, error
    return arpa


def test_a_neural_model_and_an_n_gram_are_measured_on_the_same_tokens(folder: Path, s2s_cli: Cli) -> None:
    arpa = ngram(folder, s2s_cli)
    code, out, error = s2s_cli("lm", "perplexity", folder / "lm", folder / "test.txt", "--json")
    assert code == 0, error
    neural = json.loads(out)
    assert neural["per_token"] == pytest.approx(60.0, rel=1e-5)
    assert (neural["sentences"], neural["empty"]) == (20, 1)
    code, out, error = s2s_cli(
        "lm", "perplexity", arpa, folder / "test.txt", "--tokenizer", folder / "tokenizer", "--json"
    )
    assert code == 0, error
    found = json.loads(out)
    assert found["per_token"] < 30
    assert {key: found[key] for key in ("tokens", "words", "sentences", "unknown")} == {
        key: neural[key] for key in ("tokens", "words", "sentences", "unknown")
    }
    assert math.log(neural["per_word"]) == pytest.approx(-neural["log_prob"] / (neural["words"] + 20))


def test_text_is_printed_and_ids_of_kaldi_are_dropped(folder: Path, s2s_cli: Cli) -> None:
    code, plain, _ = s2s_cli("lm", "perplexity", folder / "lm", folder / "test.txt")
    assert code == 0
    assert plain.startswith("perplexity 60.00 per token, ")
    assert "20 sentences (1 empty lines left out)" in plain
    code, kaldi, _ = s2s_cli("lm", "perplexity", folder / "lm", folder / "kaldi", "--kaldi")
    assert code == 0
    assert kaldi == plain.replace("1 empty", "0 empty")
    assert s2s_cli("lm", "perplexity", folder / "lm", "-", stdin=(folder / "test.txt").read_bytes())[1] == plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/lm.arpa", "{}/test.txt"], "is no folder; for an n-gram file, give --tokenizer too"),
        (["{}/lm", "{}/test.txt", "--tokenizer", "{}/tokenizer"], "--tokenizer: is for n-gram files"),
        (["{}/tokenizer", "{}/test.txt"], "expected the folder of a language model"),
        (["{}/test.txt", "{}/test.txt", "--tokenizer", "{}/tokenizer"], "no \\data\\ header"),
        (["{}/lm", "{}/none.txt"], "none.txt: cannot read it"),
        (["{}/lm", "{}/bad.txt"], "bad.txt:2: not UTF-8"),
        (["{}/lm", "{}/empty.txt"], "no sentences: there is nothing to measure"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str, folder: Path, s2s_cli: Cli) -> None:
    (folder / "bad.txt").write_bytes(b"gut\nschl\xe4cht\n")
    (folder / "empty.txt").write_text("\n")
    code, _, error = s2s_cli("lm", "perplexity", *(each.format(folder) for each in arguments))
    assert code == 1
    assert message in error
    assert "Traceback" not in error


def test_the_mean_states_of_a_corpus_are_those_of_its_frames(digits: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    toy_bundle().save(tmp_path / "bundle")
    command = ["lm", "mean-states", "--model", tmp_path / "bundle", "--data", digits / "dev", "--num-workers", 0]
    code, _, error = s2s_cli(*command, "--out", tmp_path / "mean.safetensors")
    assert code == 0, error
    assert "the mean of 12 utterances" in error
    found = load_file(tmp_path / "mean.safetensors")
    assert found.keys() == {"states"}
    assert found["states"].shape == (16,)
    code, _, error = s2s_cli(
        "decode", "--model", tmp_path / "bundle", "--data", digits / "dev", "--out", tmp_path / "out",
        "--num-workers", 0, "decoding.beam_size=2", "decoding.internal_lm_weight=0.1",
        f"decoding.internal_lm={tmp_path / 'mean.safetensors'}", "decoding.max_length=5",
    )  # fmt: skip
    assert code == 0, error
    code, _, error = s2s_cli(*command[:5], tmp_path, "--out", tmp_path / "x")
    assert code == 1
    assert "expected a Kaldi data directory" in error
