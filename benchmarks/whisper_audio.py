"""English speech with known texts for whisper.py: telephone prompts, and a long recording made of clips and pauses."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from s2s.audio.read import read_audio
from s2s.errors import UserError

SAMPLING_RATE = 16000
PROMPTS, SAMPLES = Path("asterisk-core-sounds-5lang", "metadata.tsv"), Path("samples", "manifest.tsv")
LONGEST_PROMPT = 30.0  # seconds: one window of Whisper
PAUSES = (0.3, 1.5)  # seconds
NOTE = re.compile(r"<[^>]*>|\[[^\]]*\]|\([^)]*\)")  # "<beep>", "at [@]", "(tone plays)"


@dataclass(frozen=True)
class Clip:
    """A recording of so many seconds, and what is said in it."""

    id: str
    path: Path
    seconds: float
    text: str

    def samples(self) -> Tensor:
        """(n,) at SAMPLING_RATE"""
        return read_audio(self.path, SAMPLING_RATE)[0]


def prompts(data_root: Path) -> list[Clip]:
    """The English prompts of one window in which something is said, in the order of the corpus."""
    return [clip for clip in _clips(data_root / PROMPTS) if clip.seconds <= LONGEST_PROMPT]


def long_recording(data_root: Path, seconds: float, seed: int) -> tuple[Tensor, str]:
    """Samples (n,) of at least so many seconds, and their text: the English sample clips in order, then prompts.

    Prompts are in random order; between two clips is silence. Raises UserError where there is less speech.
    """
    chance = random.Random(seed)
    rest = prompts(data_root)
    chance.shuffle(rest)
    pieces: list[Tensor] = []
    texts: list[str] = []
    left = round(seconds * SAMPLING_RATE)
    for clip in (*_clips(data_root / SAMPLES), *rest):
        if left <= 0:
            break
        pieces += [clip.samples(), torch.zeros(round(chance.uniform(*PAUSES) * SAMPLING_RATE))]
        texts.append(clip.text)
        left -= len(pieces[-1]) + len(pieces[-2])
    if left > 0:
        raise UserError(f"{data_root}: holds {left / SAMPLING_RATE:.0f} s of English too little for {seconds:g} s")
    return torch.cat(pieces), " ".join(texts)


def _clips(table: Path) -> Iterator[Clip]:
    if not table.is_file():
        raise UserError(f"no real speech: {table} is missing; name the folder that has it with --data-root or S2S_DATA")
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            text = NOTE.sub("", row["text"]).strip()
            if row["lang"] == "en" and re.search(r"\w", text):
                yield Clip(row["id"], table.parent / row["path"], float(row["duration"]), text)
