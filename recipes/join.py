"""Join the utterances of a data set into ones that are several times as long.

join.py DATA OUT N    N utterances of one speaker, as they follow one another in DATA, become one of OUT

DATA is a Kaldi data directory or a file of Lhotse cuts, OUT a Kaldi data directory with its own audio. Nothing is put
between utterances. What is left of a speaker makes a shorter one: whatever N is, every word is there once.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from s2s.audio.resample import resample
from s2s.data.corpora import write_kaldi
from s2s.data.corpus import load_corpus
from s2s.data.cuts import origin, speaker, text
from s2s.data.samples import load_samples
from s2s.data.validate import drop, validate
from s2s.errors import UserError


def groups(cuts: list[Cut], size: int) -> list[list[Cut]]:
    """Up to `size` utterances of one speaker each, in their order; UserError for one whose speaker is not known."""
    by_speaker: dict[str, list[Cut]] = defaultdict(list)
    for cut in cuts:
        name = speaker(cut)
        if name is None:
            raise UserError(f"{origin(cut)}: no speaker is known of utterance {cut.id}; add it to utt2spk")
        by_speaker[name].append(cut)
    return [own[i : i + size] for own in by_speaker.values() for i in range(0, len(own), size)]


def joined(group: list[Cut], rate: int) -> Tensor:
    """Samples (n,) of utterances one after the other."""
    return torch.cat([resample(load_samples(cut), cut.sampling_rate, rate) for cut in group])


def join(data: Path, out: Path, size: int) -> None:
    """Write the data directory `out`, and say what is in it."""
    corpus = load_corpus(data)
    cuts, _ = drop(corpus, validate(corpus, read_audio=False, require_text=True), [])
    made = groups(list(cuts), size)
    rate = made[0][0].sampling_rate

    def utterances() -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
        for group in made:
            samples = (32768 * joined(group, rate)).round().clamp(-32768, 32767).short().numpy()
            words = " ".join(filter(None, map(text, group)))
            yield f"{group[0].id}-x{size}", samples, {"text": words, "utt2spk": speaker(group[0]) or ""}

    write_kaldi(out, utterances(), rate)
    seconds = sum(cut.duration for cut in cuts) / len(made)
    print(f"{out}: {len(made)} utterances of {seconds:.1f} s each, of {len(cuts)}")


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal() or sys.argv[3] == "0":
        sys.exit(__doc__)
    try:
        join(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except UserError as error:
        sys.exit(f"error: {error}")
