"""Transcription with the same Whisper: s2s against faster-whisper, openai-whisper and transformers.

All get the same weights (whisper_layouts.py), the same samples, the same beam, English, and no text of earlier windows;
each falls back on temperatures as it does by default. Two works: `short`, telephone prompts of one window each, and
`long`, one recording of ten minutes. A process for each system and mode, one after the other, medians of repeats.
`peers/setup.sh whisper` makes the peers' environment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
from spoken import spoken
from torch import Tensor
from whisper_audio import SAMPLING_RATE, long_recording, prompts
from whisper_layouts import packaged_weights, write_layouts
from work import provenance, write_record

from decoding import run as run_script
from s2s.errors import UserError
from s2s.scoring.word_errors import ErrorReport, score_words

HERE = Path(__file__).parent
WORKS = ("short", "long")
SEED = 0
Answer = dict[str, Any]


class System(NamedTuple):
    """A script with its arguments, and the modes in which it does each work."""

    script: str
    arguments: tuple[str, ...]
    modes: dict[str, tuple[str, ...]]


ONE, BOTH = ("sequential",), ("sequential", "batched")
SYSTEMS = {
    "s2s-float32": System("s2s_transcribe.py", ("--dtype", "float32"), {"short": BOTH, "long": BOTH}),
    "s2s-int8": System("s2s_transcribe.py", ("--dtype", "int8"), {"short": BOTH, "long": BOTH}),
    "faster-whisper-float32": System("peers/whisper_faster.py", ("--dtype", "float32"), {"short": ONE, "long": BOTH}),
    "faster-whisper-int8": System("peers/whisper_faster.py", ("--dtype", "int8"), {"short": ONE, "long": BOTH}),
    "openai-whisper": System("peers/whisper_openai.py", (), {"short": ONE, "long": ONE}),
    "transformers": System("peers/whisper_transformers.py", (), {"short": BOTH, "long": BOTH}),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=os.environ.get("S2S_DATA"), help="folder with samples and prompts")
    parser.add_argument("--model", default="tiny.en", help="tiny.en or base, from packages of the registry")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {','.join(SYSTEMS)}; default: all")
    parser.add_argument("--works", default=",".join(WORKS), help="short, long or both; default: both")
    parser.add_argument("--limit", type=int, default=60, help="prompts of the short work")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the long work")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1, help="rounds; figures are their medians")
    parser.add_argument("--peers", type=Path, default=HERE / ".peers-whisper", help="what peers/setup.sh whisper made")
    parser.add_argument("--keep", type=Path, help="new folder to leave the work and the answers in")
    parser.add_argument("--out", type=Path, help="default: results/whisper_MODEL.json")
    options = parser.parse_args()
    for name, known in (("systems", SYSTEMS), ("works", WORKS)):
        chosen = [each.strip() for each in getattr(options, name).split(",")]
        if not set(chosen) <= set(known):
            parser.error(f"--{name}: expected some of {','.join(known)}")
        setattr(options, name, chosen)
    if min(options.limit, options.minutes, options.beam_size, options.threads, options.repeat) <= 0:
        parser.error("--limit, --minutes, --beam-size, --threads and --repeat are above 0")
    if options.keep and options.keep.exists():
        parser.error(f"--keep {options.keep}: is there already")
    options.out = options.out or HERE / "results" / f"whisper_{options.model}.json"
    return options


def make_work(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write the weights in every layout, the recordings as WAV, and work.json, which is returned."""
    if not options.data_root:
        raise UserError("no real speech; name the folder that has it with --data-root or S2S_DATA")
    data_root = Path(options.data_root)
    clips = prompts(data_root)
    random.Random(SEED).shuffle(clips)
    folder.mkdir(parents=True, exist_ok=True)
    write_layouts(packaged_weights(options.model, folder), folder, options.model)

    def recording(name: str, samples: Tensor, text: str) -> dict[str, Any]:
        file = f"{len(list(folder.glob('*.wav')))}.wav"
        soundfile.write(folder / file, samples.numpy(), SAMPLING_RATE, subtype="PCM_16")
        return {"id": name, "file": file, "seconds": len(samples) / SAMPLING_RATE, "text": text}

    work: dict[str, Any] = {"model": options.model, "beam_size": options.beam_size, "language": "en"}
    work["warm_up"] = recording("warm-up", clips[-1].samples(), clips[-1].text)
    if "short" in options.works:
        work["short"] = [recording(clip.id, clip.samples(), clip.text) for clip in clips[: options.limit]]
    if "long" in options.works:
        work["long"] = [recording("long", *long_recording(data_root, 60 * options.minutes, SEED))]
    (folder / "work.json").write_text(json.dumps(work, indent=2) + "\n", encoding="utf-8")
    return work


def run_all(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, list[Answer]]]:
    """By work and by system and mode, the answer of each round; never two processes at once."""
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    answers: dict[str, dict[str, list[Answer]]] = {work: {} for work in options.works}
    for repeat in range(options.repeat):
        for work in options.works:
            for name in options.systems:
                script, arguments, modes = SYSTEMS[name]
                python = options.peers / "bin" / "python" if script.startswith("peers/") else Path(sys.executable)
                for mode in modes[work]:
                    print(f"{work}, round {repeat + 1}: {name}, {mode} ...", file=sys.stderr)
                    file = f"{work} {name} {mode} {repeat + 1}"
                    more = (*arguments, "--audio", work, "--mode", mode)
                    answer = run_script(python, script, folder, file, options, *more)
                    answers[work].setdefault(f"{name}, {mode}", []).append(answer)
    return answers


def figures(answers: list[Answer], recordings: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; the first result is that of a call, and of many calls the median."""
    left_out = [answer for answer in answers if "left_out" in answer]
    if left_out:
        return left_out[0]
    audio = sum(recording["seconds"] for recording in recordings)
    seconds = [sum(answer["seconds"]) for answer in answers]
    reports = [score(recordings, answer["texts"]) for answer in answers]
    first = [statistics.median(answer["first_result_seconds"]) for answer in answers]
    counts = reports[0].counts
    return {
        "word_error_rate": statistics.median(report.counts.rate for report in reports),
        "word_errors": {key: getattr(counts, key) for key in ("substitutions", "deletions", "insertions")},
        "words": counts.references,
        "rounds": len(answers),
        "seconds": statistics.median(seconds),
        "seconds_range": [min(seconds), max(seconds)],
        "seconds_per_recording": statistics.median(seconds) / len(recordings),
        "real_time_factor": statistics.median(seconds) / audio,
        "first_result_seconds": statistics.median(first),
        "load_seconds": statistics.median(answer["load_seconds"] for answer in answers),
        "peak_rss_mb": statistics.median(answer["peak_rss_mb"] for answer in answers),
        **{key: answers[0][key] for key in ("threads", "versions", "settings", "notes")},
    }


def score(recordings: list[dict[str, Any]], texts: dict[str, str]) -> ErrorReport:
    """Word errors of what was said, however it is written."""
    references = {recording["id"]: spoken(recording["text"]) for recording in recordings}
    return score_words(references, {name: spoken(text) for name, text in texts.items()})


def summarise(
    work: dict[str, Any], answers: dict[str, dict[str, list[Answer]]], options: argparse.Namespace
) -> dict[str, Any]:
    """The record: how many times as long as each of ours the peers take, then what that is made of."""
    runs = {part: {name: figures(a, work[part]) for name, a in found.items()} for part, found in answers.items()}
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for part, found in runs.items():
        done = {name: run["seconds"] for name, run in found.items() if "left_out" not in run}
        ours = {name: n for name, n in done.items() if name.startswith("s2s")}
        ratios[part] = {
            peer: {own: n / mine for own, mine in ours.items()} for peer, n in done.items() if peer not in ours
        }
    return {
        "seconds_over_ours": ratios,
        "runs": runs,
        "work": {
            "model": f"whisper-{options.model}",
            "beam_size": options.beam_size,
            "language": work["language"],
            "seed": SEED,
            **{
                part: {"recordings": len(work[part]), "audio_seconds": sum(r["seconds"] for r in work[part])}
                for part in runs
            },
        },
        **provenance(options.threads),
    }


def table(record: dict[str, Any]) -> str:
    def line(name: str, cells: list[Any], width: int) -> str:
        texts = [cell if isinstance(cell, str) else f"{cell:.3g}" for cell in cells]
        return f"{name:36}" + "".join(f"{text:>{width}}" for text in texts)

    lines = []
    for part, found in record["runs"].items():
        of = record["work"][part]
        lines.append(f"{part}: {of['recordings']} recordings, {of['audio_seconds']:.0f} s")
        lines.append(line("", ["WER %", "RTF", "s each", "first s", "load s", "peak MiB"], 10))
        for name, run in found.items():
            if "left_out" in run:
                lines.append(f"{name:36}left out: {run['left_out']}")
                continue
            keys = ("real_time_factor", "seconds_per_recording", "first_result_seconds", "load_seconds")
            cells = [100 * run["word_error_rate"], *(run[key] for key in keys), f"{run['peak_rss_mb']:.0f}"]
            lines.append(line(name, cells, 10))
        for number, (peer, ratios) in enumerate(record["seconds_over_ours"][part].items()):
            if number == 0:
                lines.append(line("times as long as", list(ratios), 24))
            lines.append(line(peer, list(ratios.values()), 24))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        work = make_work(folder, options)
        answers = run_all(folder, options)
    record = summarise(work, answers, options)
    write_record(record, options.out)
    print(table(record))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
