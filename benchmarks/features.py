"""Log-mel filterbanks: s2s in torch against kaldi-native-fbank, on real speech, in turn, medians of repeats."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import kaldi_native_fbank
import torch

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.read import read_audio
from s2s.files import replacing


def kaldi(waveforms: list[list[float]], config: FbankConfig) -> int:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = config.sampling_rate
    options.mel_opts.num_bins = config.num_mel_bins
    frames = 0
    for samples in waveforms:
        computer = kaldi_native_fbank.OnlineFbank(options)
        computer.accept_waveform(config.sampling_rate, samples)
        computer.input_finished()
        frames += computer.num_frames_ready
        for index in range(computer.num_frames_ready):
            computer.get_frame(index)
    return frames


def ours(waveforms: list[torch.Tensor], fbank: Fbank) -> int:
    return sum(int(fbank(samples[None], torch.tensor([len(samples)]))[1]) for samples in waveforms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=os.environ.get("S2S_DATA"), help="folder with samples/*.flac")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch; kaldi-native-fbank has one")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "features.json")
    options = parser.parse_args()
    if not options.data_root:
        sys.exit("error: name a folder with real speech in samples/*.flac with --data-root or S2S_DATA")
    torch.set_num_threads(options.threads)
    config = FbankConfig()
    files = sorted((Path(options.data_root) / "samples").glob("*.flac"))
    waveforms = [read_audio(file, config.sampling_rate)[0] for file in files]
    seconds = sum(map(len, waveforms)) / config.sampling_rate
    lists = [(samples * 32768).tolist() for samples in waveforms]  # the form its binding takes fastest; not timed
    fbank = Fbank(config).eval()
    times: dict[str, list[float]] = {"s2s": [], "kaldi-native-fbank": []}
    frames: dict[str, int] = {}
    for _ in range(options.repeats + 1):  # the first is a warm-up
        for name, run in (
            ("s2s", lambda: ours(waveforms, fbank)),
            ("kaldi-native-fbank", lambda: kaldi(lists, config)),
        ):
            started = time.perf_counter()
            frames[name] = run()
            times[name].append(time.perf_counter() - started)
    assert frames["s2s"] == frames["kaldi-native-fbank"], frames
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    ratios = [k / s for s, k in zip(times["s2s"][1:], times["kaldi-native-fbank"][1:], strict=True)]
    record = {
        "claim": "log-mel filterbanks, one utterance at a time",
        "audio_seconds": round(seconds, 1),
        "frames": frames["s2s"],
        "threads": options.threads,
        "repeats": options.repeats,
        "median_seconds": {name: round(value, 4) for name, value in medians.items()},
        "times_faster": {
            "median": round(statistics.median(ratios), 2),
            "min": round(min(ratios), 2),
            "max": round(max(ratios), 2),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in ("s2s", "torch", "kaldi-native-fbank")},
        "command": "python benchmarks/features.py",
    }
    with replacing(options.out) as beside:
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
