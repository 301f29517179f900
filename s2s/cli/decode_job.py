"""What `s2s decode` does with a part of a data set, in whichever process."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2s.api import load_hybrid
from s2s.cli.jobs import Journal
from s2s.data.batch import Batch
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.data.directions import all_asking, reading
from s2s.data.loader import Batches, DataConfig, evaluation_batches
from s2s.data.validate import drop
from s2s.decoding.alignment import Word
from s2s.decoding.config import load_decoding_config
from s2s.errors import UserError
from s2s.transcription.transcript import Transcript

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class DecodeSettings:
    """What is asked for; strings, so that it travels to other processes."""

    model: str
    data: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: str | None
    skip: tuple[str, ...]
    language: str | None
    target_language: str | None
    punctuation: bool
    num_workers: int
    device: str

    def key(self) -> str:
        """Of what decides the result: another model under the same name counts as another."""
        weights = Path(self.model) / WEIGHTS
        state = (weights.stat().st_size, weights.stat().st_mtime_ns) if weights.is_file() else ()
        what = {**asdict(self), "device": None, "num_workers": None}
        return hashlib.sha256(json.dumps([what, state], sort_keys=True).encode()).hexdigest()[:16]


class DecodeJob:
    """A model, a search and a data set, loaded."""

    def __init__(self, settings: DecodeSettings, say: Callable[[str], None] = lambda text: None) -> None:
        self.settings = settings
        self.decoding = load_decoding_config(settings.overrides, settings.config_dir)
        self.transcriber = load_hybrid(settings.model, self.decoding, settings.device)
        corpus = load_corpus(settings.data)
        kept = [problem for problem in corpus.problems if problem.kind != "no_text"]
        self.cuts, left_out = drop(corpus, kept, settings.skip)
        if left_out:
            say(left_out)
        self.wanted, prompts = "transcribe", self.transcriber.prompts
        asked = settings.language or settings.target_language or not settings.punctuation
        if prompts is not None:
            self.cuts, self.wanted = all_asking(
                self.cuts, prompts, settings.language, settings.target_language, settings.punctuation
            )
        elif asked:
            raise UserError(
                "--language, --target-language, --no-punctuation: this model takes no prompts; leave them out"
            )
        bundle, read = self.transcriber.bundle, None
        if getattr(bundle.model, "text_encoder", None) is not None:
            self.cuts, read = reading(self.cuts), bundle.tokenizer
        self.dataset = SpeechDataset(None, bundle.features, "bad_audio" in settings.skip, prompts, read)
        self.config = DataConfig(max_batch_seconds=self.decoding.max_batch_seconds, num_workers=settings.num_workers)

    def batches(self, done: set[str]) -> list[list[str]]:
        """What is left to decode, from the longest to the shortest."""
        left = self.cuts.filter(lambda cut: cut.id not in done).to_eager()
        return evaluation_batches(left, self.dataset, self.config).ids if len(left) else []

    def run(self, ids: list[list[str]], journal: Journal, advance: Callable[[], None] = lambda: None) -> None:
        """Decode batches of utterances; each is written into the journal as soon as it is known."""
        batches = Batches(self.dataset, {cut.id: cut for cut in self.cuts}, ids, self.settings.num_workers)

        def read() -> Iterator[Batch]:
            for batch in batches:
                for skipped in batch.skipped:
                    name, reason = skipped.split(": ", 1)
                    print(f"skipped, its audio cannot be read: {skipped}")
                    journal.write(name, {"skipped": reason})
                    advance()
                yield batch

        for name, transcript in self.transcriber.transcribe_batches(read(), self.wanted):
            journal.write(name, to_record(transcript))
            advance()


def decode_share(share: tuple[DecodeSettings, Sequence[list[str]], str]) -> None:
    """A share of a job, in a process of its own: settings, batches of utterances, folder of the journal."""
    settings, ids, folder = share
    DecodeJob(settings).run(list(ids), Journal(Path(folder)))


def to_record(transcript: Transcript) -> dict[str, Any]:
    """A transcript as JSON has it; every number comes back as it was."""
    record: dict[str, Any] = {
        "text": transcript.text,
        "score": transcript.score,
        "seconds": transcript.seconds,
        "scores": transcript.scores,
        "words": None if transcript.words is None else [asdict(word) for word in transcript.words],
        "alternatives": [to_record(each) for each in transcript.alternatives],
    }
    if transcript.attention is not None:
        weights = transcript.attention.detach().cpu().float().contiguous().numpy()
        record["attention"] = {"shape": weights.shape, "float32": base64.b64encode(weights.tobytes()).decode()}
    return record


def from_record(record: dict[str, Any]) -> Transcript:
    """What `to_record` was given."""
    attention = record.get("attention")
    weights = None
    if attention is not None:
        values = np.frombuffer(base64.b64decode(attention["float32"]), dtype=np.float32)
        weights = torch.from_numpy(values.copy()).reshape(attention["shape"])
    words = record["words"]
    return Transcript(
        record["text"],
        record["score"],
        record["seconds"],
        record["scores"],
        None if words is None else [Word(**word) for word in words],
        weights,
        [from_record(each) for each in record["alternatives"]],
    )
