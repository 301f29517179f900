"""Transcription by faster-whisper (CTranslate2) of a work of benchmarks/whisper.py.

Runs in the environment of Whisper's peers (setup.sh). ../README.md has the format of WORK and of
the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faster_whisper import BatchedInferencePipeline, WhisperModel
from whisper_work import Samples, Tell, Transcribe, Work, arguments, measure

BATCH_SIZE = 16


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dtype", choices=("float32", "int8"), default="float32")
    options = parser.parse_args()
    batched = options.mode == "batched"

    def load(work: Work) -> tuple[Transcribe, dict[str, Any]]:
        folder = str(work.folder / "ctranslate2")
        model = WhisperModel(folder, device="cpu", compute_type=options.dtype, cpu_threads=options.threads)
        asked = {"language": work.language, "beam_size": work.beam_size}
        if batched:
            asked["batch_size"] = BATCH_SIZE
        else:
            asked["condition_on_previous_text"] = False
        heard = BatchedInferencePipeline(model) if batched else model

        def transcribe(waveforms: Sequence[Samples], tell: Tell) -> None:
            for number, waveform in enumerate(waveforms):
                for segment in heard.transcribe(waveform, **asked)[0]:
                    tell(number, segment.text)

        return transcribe, {"compute_type": model.model.compute_type, **asked}

    fallback = "none in this mode" if batched else "its default, 0.2 to 1.0 with the best of 5 samples"
    windows = "cut by its voice activity detector, no time tokens" if batched else "of 30 s, with time tokens"
    measure(
        options, load, ("faster-whisper", "ctranslate2"), f"windows {windows}; fallback on temperatures: {fallback}"
    )


if __name__ == "__main__":
    main()
