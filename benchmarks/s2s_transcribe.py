"""Transcription by s2s of a work of whisper.py, with the options and the answer of the scripts peers/whisper_*.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peers.whisper_work import Samples, Tell, Transcribe, Work, arguments, measure

import s2s
from s2s.audio.voice_activity import best_detector
from s2s.decoding.config import load_decoding_config
from s2s.transcription.request import Request


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dtype", choices=("float32", "int8"), default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    window_by_window = options.audio == "long" and options.mode == "sequential"

    def load(work: Work) -> tuple[Transcribe, dict[str, Any]]:
        decoding = load_decoding_config(["decoding=whisper", f"decoding.beam_size={work.beam_size}"])
        transcriber = s2s.load(work.folder / "s2s", decoding, dtype=options.dtype)

        def transcribe(waveforms: Sequence[Samples], tell: Tell) -> None:
            if options.audio == "long":
                for number, samples in enumerate(waveforms):
                    for segment in transcriber.segments(samples, Request(work.language, sequential=window_by_window)):
                        tell(number, f"{segment.text} ")
                return
            for number, transcript in enumerate(transcriber.transcribe(list(waveforms), language=work.language)):
                tell(number, transcript.text)

        return transcribe, {
            "dtype": options.dtype,
            "language": work.language,
            "beam_size": decoding.beam_size,
            "batch_size": decoding.batch_size,
            "max_batch_seconds": decoding.max_batch_seconds,
            "condition_on_previous_text": window_by_window,
            "voice_activity": type(best_detector(transcriber.sampling_rate)).__name__,
        }

    windows = "of 30 s, with time tokens" if window_by_window else "cut at silences, no time tokens"
    measure(
        options,
        load,
        ("s2s", "torch"),
        f"windows {windows}; fallback on temperatures: its default, 0.2 to 1.0 with the best of 5 samples; the first "
        "result of a long recording is its first segment",
    )


if __name__ == "__main__":
    main()
