"""Transcription by openai-whisper of a work of benchmarks/whisper.py.

Runs in the environment of Whisper's peers (setup.sh). ../README.md has the format of WORK and of
the answer.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import torch
import whisper
from whisper_work import Samples, Tell, Transcribe, Work, arguments, measure


class FirstLine(io.TextIOBase):
    """Standard output on which the text appears window by window; it is returned only when all is done."""

    def __init__(self, number: int, tell: Tell) -> None:
        self.number, self.tell = number, tell

    def write(self, text: str) -> int:
        self.tell(self.number, "")
        return len(text)


def main() -> None:
    options = arguments(__doc__).parse_args()
    if options.mode == "batched":
        raise SystemExit("openai-whisper has no batched mode")
    torch.set_num_threads(options.threads)

    def load(work: Work) -> tuple[Transcribe, dict[str, Any]]:
        model = whisper.load_model(str(work.folder / "openai.pt"), device="cpu")
        asked = {"language": work.language, "beam_size": work.beam_size, "best_of": 5, "fp16": False}
        asked["condition_on_previous_text"] = False

        def transcribe(waveforms: Sequence[Samples], tell: Tell) -> None:
            for number, waveform in enumerate(waveforms):
                with contextlib.redirect_stdout(FirstLine(number, tell)):
                    found = model.transcribe(waveform, verbose=True, **asked)
                tell(number, found["text"])

        return transcribe, {"dtype": "float32", **asked}

    measure(
        options,
        load,
        ("openai-whisper", "torch"),
        "windows of 30 s, with time tokens; fallback on temperatures: its default, 0.2 to 1.0, with the best of 5 "
        "samples as its command has it; the first result is the first line that it prints",
    )


if __name__ == "__main__":
    main()
