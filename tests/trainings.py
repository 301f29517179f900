"""Trainings from text, as tests run them: on real captions, or on anything else."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from s2s.training.config import load_train_config
from s2s.training.loop import Trainer


def write_captions(data_root: Path, folder: Path, num_train: int, num_dev: int) -> list[str]:
    """Short captions in English, German and French as folders train and dev; the lines of all of them."""
    everything = []
    for language in ("en", "de", "fr"):
        with gzip.open(data_root / f"multi30k/val.{language}.gz", "rt", encoding="utf-8") as stream:
            lines = [line for line in stream if len(line) < 60][: num_train + num_dev]
        for part, own in (("train", lines[:num_train]), ("dev", lines[num_train:])):
            (folder / part).mkdir(exist_ok=True)
            (folder / part / f"text.{language}").write_text("".join(own), encoding="utf-8")
        everything += lines
    return everything


def small_translation(data: Path, tokenizer: str, encoder: str = "encoder", width: int = 32) -> list[str]:
    """Overrides that train a small model quickly on the folders train and dev of `data`."""
    small = [f"{encoder}.model_dim={width}", f"{encoder}.num_layers=1", f"{encoder}.num_heads=2"]
    small += [f"{encoder}.feed_forward_dim={width}", "decoder.num_layers=1", "decoder.num_heads=2"]
    return [
        f"tokenizer={data / tokenizer}",
        f"text.train=[{data / 'train'}]",
        f"text.valid=[{data / 'dev'}]",
        "text.max_batch_tokens=400",
        *(f"model.{each}" for each in (*small, f"decoder.feed_forward_dim={width}")),
        *quick(),
    ]


def quick() -> list[str]:
    """Overrides of a training of two epochs of few steps."""
    return [
        "optim.learning_rate=5e-3",
        "optim.warmup_steps=10",
        "training.max_epochs=2",
        "training.accelerator=cpu",
    ]


def train(name: str, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Train what a config and overrides say; what was said."""
    said: list[str] = []
    Trainer(load_train_config(name, [f"exp_dir={folder}", *overrides]), said.append).run()
    return said


def records(folder: Path) -> list[dict[str, float]]:
    """What a training recorded of each epoch, without the time it took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]
