"""The recipe of language models, and the recogniser's recipe with what it makes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from recipe_tree import copy_recipe, run

from s2s.decoding.config import load_decoding_config


@pytest.fixture(scope="module")
def tree(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two recipes of a corpus, with the digits as its data."""
    root = tmp_path_factory.mktemp("tree")
    recogniser = copy_recipe("mboshi", root)
    copy_recipe("mboshi", root, "lm")
    shutil.copytree(digits, recogniser / "data", ignore=shutil.ignore_patterns("all"))
    shutil.copytree(digits / "dev", recogniser / "data" / "test")
    return root / "egs/mboshi"


def test_all_stages_run_and_what_is_done_is_skipped(tree: Path) -> None:
    small = ["model.model_dim=16", "model.num_layers=1", "model.num_heads=2", "model.feed_forward_dim=16"]
    options = ["--order", "2", *small, "training.max_epochs=2", "optim.warmup_steps=2"]
    done = run(tree / "lm/run.sh", *options)
    assert done.returncode == 0, done.stderr
    out = tree / "lm/exp/run"
    neural, ngram = (json.loads((out / f"perplexity/{name}.json").read_text()) for name in ("test", "test-ngram"))
    assert neural["tokens"] == ngram["tokens"] > 0
    assert neural["sentences"] == 12
    assert "perplexity" in (out / "bundle/README.md").read_text()
    again = run(tree / "lm/run.sh", *options)
    assert again.stdout.count("is done already") == 6


def test_the_recogniser_decodes_with_each_use_of_them(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "s2s").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "s2s").chmod(0o755)
    options = ["--stage", "4", "--stop-stage", "4", "--decodings", "joint", "--lm", "../lm/exp/run/bundle"]
    options += [
        "--ngram",
        "lm.arpa",
        "--internal-lm-weight",
        "0.1",
        "--lm-weight",
        "0.2",
        "--exp",
        str(tmp_path / "exp"),
    ]
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = run(tree / "asr/run.sh", *options, "decoding.beam_size=3", env=env)
    assert done.returncode == 0, done.stderr
    means, *calls = (tmp_path / "calls").read_text().splitlines()
    assert means.startswith("lm mean-states --model ")
    found = {}
    for call in calls:
        words = call.split()
        config = load_decoding_config([word for word in words if word.startswith("decoding")])
        assert config.beam_size == 3
        found[Path(words[words.index("--out") + 1]).name] = config
    assert set(found) == {"joint"} | {
        f"joint+{each}"
        for each in ("lm", "lm-nbest", "ngram", "ngram-nbest", "ilm-zero", "ilm-utterance", "ilm-training")
    }
    for name, config in found.items():
        has_lm = "+lm" in name or "+ilm" in name
        assert (config.lm, config.lm_weight) == (("../lm/exp/run/bundle", 0.2) if has_lm else (None, 0.3))
        assert config.ngram == ("lm.arpa" if "+ngram" in name else None)
        assert config.lm_rescoring == name.endswith("-nbest")
        assert config.internal_lm_weight == (0.1 if "+ilm" in name else 0.0)
    assert found["joint+ilm-utterance"].internal_lm == "utterance"
    assert found["joint+ilm-training"].internal_lm == f"{tmp_path}/exp/mean_states.safetensors"


def test_more_text_is_added_to_the_sentences(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("one two\n")
    options = ["--stop-stage", "0", "--data", str(tmp_path / "data"), "--exp", str(tmp_path / "exp")]
    done = run(tree / "lm/run.sh", *options, "--text", str(tmp_path / "more"))
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "data/train.txt").read_text().splitlines()
    assert len(lines) == 49
    assert lines[-1] == "one two"
    transcripts = (tree / "asr/data/train/text").read_text().splitlines()
    assert lines[:-1] == [line.split(" ", 1)[1] for line in transcripts]


def test_help_and_what_is_missing(tree: Path, tmp_path: Path) -> None:
    done = run(tree / "lm/run.sh", "--help")
    assert done.returncode == 0
    for word in ("--recogniser", "--text", "--order", "model=lstm_lm", "5 bundle"):
        assert word in done.stdout
    done = run(tree / "lm/run.sh", "--recogniser", str(tmp_path), "--exp", str(tmp_path / "exp"))
    assert done.returncode == 1
    assert "tokenizer: no such folder; run stages 0 and 1 of the recogniser's recipe" in done.stderr
    assert run(tree / "lm/run.sh", "--order", "four").returncode == 2
    done = run(tree / "asr/run.sh", "--internal-lm-weight", "0.1")
    assert done.returncode == 2
    assert "--internal-lm-weight: makes room for a language model; give --lm too" in done.stderr
