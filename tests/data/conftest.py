"""Small Kaldi directories that point at real speech."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

Folder = Callable[..., Path]


def rows(corpus: Path, number: int, every: int = 1) -> list[dict[str, str]]:
    """Some rows of a corpus's metadata, their audio as absolute paths."""
    with (corpus / "metadata.tsv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[::every][:number]
    return [{**row, "path": str(corpus / row["path"])} for row in found]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """`folder(wav_scp=[...], text=[...])` writes those lines into a new directory."""

    def make(name: str = "train", **files: list[str]) -> Path:
        (tmp_path / name).mkdir()
        for file, lines in files.items():
            (tmp_path / name / file.replace("wav_scp", "wav.scp")).write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / name

    return make


@pytest.fixture
def digits(data_root: Path) -> list[dict[str, str]]:
    """Twenty-four digits of several speakers and lengths, 8 kHz."""
    return rows(data_root / "fsdd", 24, every=120)


@pytest.fixture
def kaldi(folder: Folder, digits: list[dict[str, str]]) -> Path:
    """Those digits as a Kaldi directory."""
    return folder(
        wav_scp=[f"{row['id']} {row['path']}" for row in digits],
        text=[f"{row['id']} {row['text']}" for row in digits],
        utt2spk=[f"{row['id']} {row['speaker']}" for row in digits],
    )


@pytest.fixture
def yesno(data_root: Path) -> list[dict[str, str]]:
    """Three recordings of eight words each, 8 kHz."""
    return rows(data_root / "yesno-hebrew", 3)
