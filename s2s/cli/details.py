"""What `s2s decode` writes beside the transcripts, where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2s.decoding.alignment import Word
    from s2s.decoding.config import DecodingConfig
    from s2s.transcription.transcript import Transcript


def write_ctm(path: Path, words: Mapping[str, Sequence[Word]]) -> None:
    """Write the words of utterances, with their times, as one file in NIST's format."""
    from s2s.files import replacing
    from s2s.transcription.formats import ctm_of

    with replacing(path) as beside:
        beside.write_text("".join(ctm_of(found, name) for name, found in words.items()), encoding="utf-8")


def write_details(out: Path, transcripts: Mapping[str, Transcript], decoding: DecodingConfig) -> None:
    """Write nbest.jsonl, ctm and attention.safetensors, those that `decoding` asks for, into `out`."""
    import json

    from s2s.files import replacing

    if decoding.nbest > 1:
        lines = (
            json.dumps({"id": name, "rank": rank, "text": each.text, "score": each.score, "scores": each.scores})
            for name, transcript in transcripts.items()
            for rank, each in enumerate([transcript, *transcript.alternatives], start=1)
        )
        with replacing(out / "nbest.jsonl") as beside:
            beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if decoding.token_times:
        write_ctm(out / "ctm", {name: transcript.words or [] for name, transcript in transcripts.items()})
    if decoding.attention:
        from safetensors.torch import save_file

        weights = {n: t.attention.cpu().contiguous() for n, t in transcripts.items() if t.attention is not None}
        with replacing(out / "attention.safetensors") as beside:
            save_file(weights, beside)
