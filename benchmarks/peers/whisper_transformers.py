"""Transcription by transformers of a work of benchmarks/whisper.py.

Sequential: `generate`, which takes a long recording window by window. Batched: `generate` with several recordings of
one window; a long recording in overlapping chunks, by the pipeline. Runs in the environment of Whisper's peers
(setup.sh). ../README.md has the format of WORK and of
the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoProcessor, WhisperForConditionalGeneration, pipeline
from whisper_work import Samples, Tell, Transcribe, Work, arguments, measure

BATCH_SIZE = 16
SAMPLING_RATE = 16000
WINDOW = 30  # seconds


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(options.threads)
    chunked = options.audio == "long" and options.mode == "batched"

    def load(work: Work) -> tuple[Transcribe, dict[str, Any]]:
        folder = work.folder / "transformers"
        processor = AutoProcessor.from_pretrained(folder)
        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        asked: dict[str, Any] = {"num_beams": work.beam_size}
        if model.generation_config.is_multilingual:
            asked |= {"language": work.language, "task": "transcribe"}

        def generate(batch: Sequence[Samples]) -> list[str]:
            long = max(map(len, batch)) > WINDOW * SAMPLING_RATE
            whole = {"truncation": False, "padding": "longest"} if long else {}
            inputs = processor(
                list(batch), sampling_rate=SAMPLING_RATE, return_tensors="pt", return_attention_mask=True, **whole
            )
            more = {"return_timestamps": True, "condition_on_prev_tokens": False} if long else {}
            ids = model.generate(inputs.input_features, attention_mask=inputs.attention_mask, **asked, **more)
            return list(processor.batch_decode(ids, skip_special_tokens=True))

        def transcribe(waveforms: Sequence[Samples], tell: Tell) -> None:
            for start in range(0, len(waveforms), BATCH_SIZE):
                for number, text in enumerate(generate(waveforms[start : start + BATCH_SIZE]), start):
                    tell(number, text)

        def transcribe_chunks(waveforms: Sequence[Samples], tell: Tell) -> None:
            recogniser = pipeline(
                "automatic-speech-recognition",
                model=model,
                tokenizer=processor.tokenizer,
                feature_extractor=processor.feature_extractor,
                chunk_length_s=WINDOW,
                batch_size=BATCH_SIZE,
            )
            for number, waveform in enumerate(waveforms):
                tell(number, recogniser(waveform, generate_kwargs=asked)["text"])

        batch = {"batch_size": BATCH_SIZE} if options.mode == "batched" else {}
        settings = {"dtype": "float32", "attention": model.config._attn_implementation, **asked, **batch}
        return transcribe_chunks if chunked else transcribe, settings

    windows = "in chunks of 30 s that overlap by 5 s, of the pipeline" if chunked else "of 30 s, by generate"
    times = "with" if options.audio == "long" and not chunked else "without"
    measure(
        options,
        load,
        ("transformers", "torch"),
        f"windows {windows}, {times} time tokens; fallback on temperatures: its default, none; the text of a recording "
        "comes when all of it is done",
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
