"""What streaming costs: word error rate against latency, quality against latency of policies, sessions on a core.

    python benchmarks/streaming.py chunks --bundle DIR --data DIR     WER and latency of a streaming model, by chunk
    python benchmarks/streaming.py policies                           BLEU against LAAL of Whisper, by policy
    python benchmarks/streaming.py sessions --bundle DIR --data DIR   how many sessions one core holds
    python benchmarks/streaming.py hours --bundle DIR --data DIR      memory and speed of a session that goes on and on

`chunks` decodes a Kaldi data directory through sessions fed 0.1 s at a time, on a simulated clock. `policies` has
Whisper base, whose weights a package has, translate the longest Asterisk prompts of a language into English with no
training; references are the same prompts in English. `sessions` gives each of N sessions 0.1 s at a time and processes
all that are ready together; a core holds as many as it hears in real time. `hours` feeds one session the same speech
again and again, 0.1 s at a time, and reads the memory of the process every ten minutes of speech.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from work import provenance, write_record

from s2s.api import load_stream
from s2s.audio.read import read_audio
from s2s.scoring.instances import read_instances
from s2s.scoring.json_lines import JsonLine
from s2s.scoring.latency import latency_json, score_latency
from s2s.scoring.streaming_events import StreamReport, read_stream_events, score_stream, stream_json
from s2s.scoring.transcripts import read_transcripts
from s2s.scoring.word_errors import score_words
from s2s.streaming.committed import CommittedWords
from s2s.streaming.event import StreamEvent
from s2s.streaming.listen import Listener, Told
from s2s.streaming.session import Streamer, StreamSession
from s2s.streaming.settings import StreamSettings

HERE = Path(__file__).parent
PIECE = 0.1
WHOLE = 60.0  # seconds of a chunk that holds any utterance
LONGEST = 20.0  # seconds of a prompt: longer ones are several sentences
POLICIES = (
    ("simul_whisper", {"frames": (4, 25, 75)}),
    ("align_att", {"frames": (4, 25, 75)}),
    ("edatt", {"alpha": (0.1, 0.4)}),
    ("local_agreement", {"n": (2, 3)}),
    ("hold_n", {"n": (3, 8)}),
    ("wait_k", {"k": (2, 5)}),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("chunks", "policies", "sessions", "hours"))
    parser.add_argument("--bundle", type=Path, help="a streaming model")
    parser.add_argument("--data", type=Path, help="Kaldi data directory")
    parser.add_argument("--data-root", default=os.environ.get("S2S_DATA"), help="folder with the Asterisk prompts")
    parser.add_argument(
        "--chunks", type=float, nargs="+", default=[0.16, 0.32, 0.64, 1.28, WHOLE], help="seconds; 60 sees all"
    )
    parser.add_argument("--decodings", nargs="+", default=["ctc_prefix", "rescoring"])
    parser.add_argument("--language", default="fr")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--limit", type=int, default=40, help="utterances")
    parser.add_argument("--step", type=float, default=1.0, help="seconds between two searches of a policy")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech in each session")
    parser.add_argument("--hours", type=float, default=1.0, help="of speech in one session")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="(default: results/streaming_WHAT.json)")
    parser.add_argument("--plot", type=Path, default=None, help="(default: ../docs/streaming_WHAT.png)")
    options = parser.parse_args()
    if options.what != "policies" and not (options.bundle and options.data):
        parser.error(f"{options.what}: needs --bundle and --data")
    return options


def heard(streamer: Streamer, samples: Tensor) -> tuple[list[Told], Listener]:
    """All events of an utterance fed piece by piece, on the simulated clock."""
    listener = Listener(streamer.session())
    told: list[Told] = []
    for piece in samples.split(round(PIECE * streamer.sampling_rate)):
        told += listener.feed(piece)
    return [*told, *listener.finish()], listener


def text_of(told: Sequence[Told]) -> str:
    return " ".join(each.event.text for each in told if each.event.kind == "final" and each.event.text)


def waveforms(data: Path, rate: int, limit: int) -> Iterator[tuple[str, Tensor]]:
    """Id and samples of utterances of a Kaldi data directory without segments."""
    for line in (data / "wav.scp").read_text(encoding="utf-8").splitlines()[:limit]:
        name, path = line.split(maxsplit=1)
        yield name, read_audio(path if Path(path).exists() else data.parents[1] / path, rate)[0]


def chunks(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for decoding in options.decodings:
        for chunk in options.chunks:
            streamer = load_stream(options.bundle, StreamSettings.of(decoding, None, []), chunk)
            lines, texts, spent, seconds = [], {}, 0.0, 0.0
            for name, samples in waveforms(options.data, streamer.sampling_rate, options.limit):
                begun = time.perf_counter()
                told, listener = heard(streamer, samples)
                spent, seconds = spent + time.perf_counter() - begun, seconds + listener.heard
                texts[name] = text_of(told)
                lines += [logged(name, each) for each in told]
                lines += [{"source": name, "event": "end", "heard": listener.heard, "wall": listener.wall}]
            report = score_stream(read_stream_events([JsonLine(name, line) for line in lines]))
            references = {n: t for n, t in read_transcripts(str(options.data / "text")).items() if n in texts}
            errors = score_words(references, texts, "word", False)
            rows.append(
                {
                    "decoding": decoding,
                    "chunk": chunk,
                    "utterances": len(texts),
                    "wer": errors.counts.rate,
                    "real_time_factor": spent / seconds,
                    **summary(report),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def logged(name: str, told: Told) -> dict[str, Any]:
    """An event as `s2s stream --events` writes it."""
    event = told.event
    words = None if event.words is None else [asdict(word) for word in event.words]
    times = {"start": event.start, "end": event.end, "heard": event.heard, "wall": told.wall}
    return {"source": name, "event": event.kind, "text": event.text, **times, "words": words}


def summary(report: StreamReport) -> dict[str, Any]:
    """Medians, on the audio's clock and, as _CA, on the wall's; and how much was taken back."""
    found = {key: value for key, value in stream_json(report).items() if key in ("UPWR", "UPSR")}
    for key in ("first_partial", "word", "final"):
        for suffix in ("", "_CA"):
            content = stream_json(report)[key + suffix]
            found[key + suffix] = None if content is None else content["median"]
    return found


def policies(options: argparse.Namespace) -> list[dict[str, Any]]:
    import sacrebleu

    folder = Path(options.data_root) / "asterisk-core-sounds-5lang"
    prompts = longest(folder, options.language, options.limit)
    rows = []
    for policy, grid in POLICIES:
        for key, values in grid.items():
            for value in values:
                settings = StreamSettings.of(None, policy, [f"policy.{key}={value}", *extras(policy)])
                streamer = load_stream(
                    options.model, settings, options.step, language=options.language, task="translate"
                )
                recordings = [read_audio(folder / path, streamer.sampling_rate)[0] for path, _ in prompts]
                found = side_by_side(streamer, recordings)
                instances = [
                    instance(number, path, reference, events, len(samples) / streamer.sampling_rate)
                    for number, ((path, reference), events, samples) in enumerate(
                        zip(prompts, found, recordings, strict=True)
                    )
                ]
                report = latency_json(score_latency(read_instances([JsonLine("instances", i) for i in instances])))
                bleu = sacrebleu.corpus_bleu(
                    [i["prediction"] for i in instances], [[i["reference"] for i in instances]]
                )
                rows.append(
                    {
                        "policy": policy,
                        key: value,
                        "utterances": len(prompts),
                        "bleu": bleu.score,
                        "LAAL": report["LAAL"],
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    return rows


def extras(policy: str) -> list[str]:
    """A second of speech is a piece to wait-k: 50 encoder frames of Whisper."""
    return ["policy.piece_frames=50"] if policy == "wait_k" else []


def longest(folder: Path, language: str, limit: int) -> list[tuple[str, str]]:
    """Recording and English text of the longest prompts of a language that have both."""
    with (folder / "parallel.tsv").open(encoding="utf-8", newline="") as file:
        english = {row["id"]: row["en"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    with (folder / "metadata.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    own = [
        row for row in rows if row["lang"] == language and row["text"].strip() and english.get(row["id"], "").strip()
    ]
    own = [row for row in own if float(row["duration"]) < LONGEST]
    own.sort(key=lambda row: -float(row["duration"]))
    return [(row["path"], english[row["id"]]) for row in own[:limit]]


def side_by_side(streamer: Streamer, recordings: Sequence[Tensor]) -> list[list[StreamEvent]]:
    """The events of recordings that are all heard at once, a piece of each at a time."""
    opened, size = [streamer.session() for _ in recordings], round(PIECE * streamer.sampling_rate)
    events: dict[StreamSession, list[StreamEvent]] = {session: [] for session in opened}
    for start in range(0, max(map(len, recordings)) + size, size):
        for session, samples in zip(opened, recordings, strict=True):
            if start < len(samples):
                session.push(samples[start : start + size])
            else:
                session.close()
        while done := streamer.process(opened):
            for session, new in done.items():
                events[session] += new
    return list(events.values())


def instance(number: int, source: str, reference: str, events: Sequence[StreamEvent], seconds: float) -> dict[str, Any]:
    """A sentence as SimulEval logs it: when each word was committed to, in milliseconds of speech."""
    committed, words, delays = CommittedWords(), [], []
    for event in events:
        new = committed.new(event)
        words += new
        delays += [1000 * event.heard] * len(new)
    return {
        "index": number,
        "prediction": " ".join(words),
        "delays": delays,
        "prediction_length": len(words),
        "reference": reference,
        "source": [source],
        "source_length": 1000 * seconds,
    }


def sessions(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for decoding in options.decodings:
        for chunk in options.chunks:
            streamer = load_stream(options.bundle, StreamSettings.of(decoding, None, []), chunk)
            speech = torch.cat([x for _, x in waveforms(options.data, streamer.sampling_rate, options.limit)])
            size = round(options.seconds * streamer.sampling_rate)
            for count in options.sessions:
                spent = together(streamer, [speech.roll(-i * size)[:size] for i in range(count)])
                rows.append(
                    {
                        "decoding": decoding,
                        "chunk": chunk,
                        "sessions": count,
                        "audio_seconds_a_second": count * options.seconds / spent,
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    return rows


def together(streamer: Streamer, streams: Sequence[Tensor]) -> float:
    """Seconds of work for sessions that are fed 0.1 s at a time, all at once."""
    begun = time.perf_counter()
    side_by_side(streamer, streams)
    return time.perf_counter() - begun


def hours(options: argparse.Namespace) -> list[dict[str, Any]]:
    streamer = load_stream(options.bundle, StreamSettings.of(options.decodings[0], None, []), options.chunks[0])
    speech = torch.cat([x for _, x in waveforms(options.data, streamer.sampling_rate, options.limit)])
    pieces = speech.split(round(PIECE * streamer.sampling_rate))
    session, finals, fed = streamer.session(), 0, 0
    begun, rows = time.perf_counter(), []
    for piece in itertools.cycle(pieces):
        finals += sum(event.kind == "final" for event in session.feed(piece))
        before, fed = fed, fed + len(piece)
        minutes = [int(samples / streamer.sampling_rate / 600) for samples in (before, fed)]
        if minutes[0] < minutes[1]:
            rows.append(
                {
                    "decoding": options.decodings[0],
                    "chunk": options.chunks[0],
                    "minutes": 10 * minutes[1],
                    "finals": finals,
                    "mib": round(resident_mib(), 1),
                    "real_time_factor": (time.perf_counter() - begun) / (fed / streamer.sampling_rate),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        if fed >= 3600 * options.hours * streamer.sampling_rate:
            return rows
    return rows


def resident_mib() -> float:
    """Memory of this process as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def draw(what: str, rows: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    x, y, kind = {
        "chunks": ("word", "wer", "decoding"),
        "policies": ("LAAL", "bleu", "policy"),
        "sessions": ("sessions", "audio_seconds_a_second", "decoding"),
        "hours": ("minutes", "mib", "decoding"),
    }[what]
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    factor = 100 if y == "wer" else 1
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        name = f"{row[kind]}, {row['chunk']:g} s" if what == "sessions" else row[kind]
        curves.setdefault(name, []).append(row)
    for name, own in curves.items():
        own = sorted(own, key=lambda row: row[x])
        axes.plot([row[x] for row in own], [factor * row[y] for row in own], marker="o", label=name)
        if what == "chunks":
            for row in own:
                seconds = f"{row['chunk']:g} s" if row["chunk"] < WHOLE else "whole"
                axes.annotate(seconds, (row[x], factor * row[y]), (4, 6), textcoords="offset points", fontsize="small")
    labels = {
        "word": "median delay of a word, from its end until it stands for good (s)",
        "wer": "word error rate (%)",
        "LAAL": "LAAL (ms)",
        "bleu": "BLEU",
        "sessions": "sessions at once",
        "minutes": "minutes of speech",
        "mib": "memory of the process (MiB)",
        "audio_seconds_a_second": "seconds of audio heard in a second",
    }
    axes.set(xlabel=labels[x], ylabel=labels[y])
    if what in ("sessions", "hours"):
        axes.set_ylim(0, None)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    rows = {"chunks": chunks, "policies": policies, "sessions": sessions, "hours": hours}[options.what](options)
    record = {"measured": provenance(options.threads), "rows": rows}
    write_record(record, options.out or HERE / "results" / f"streaming_{options.what}.json")
    draw(options.what, rows, options.plot or HERE.parent / "docs" / f"streaming_{options.what}.png")


if __name__ == "__main__":
    main()
