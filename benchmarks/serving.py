"""How many live streams a server holds: the delay of final texts, and what one more stream costs.

    python benchmarks/serving.py --model whisper-tiny.en
    python benchmarks/serving.py --model egs/kerstin/asr/exp/run/bundle --audio DIR --query chunk=0.64

A server runs in a process of its own with as many threads as there are cores; clients in this one speak real recordings
at the speed of speech, with silence between, each begun at another time. A final's delay is from when the last audio
that it depends on was sent until its text was there; the silence by which the server tells that somebody has finished
(1 s) comes before that, and is in `spoken`. A number of streams is held where 95 of 100 finals come within `--limit`
seconds and no client is refused or late. The number is doubled until it is not held, then halved in between. The
processor's time of the server for a second of speech is fitted by a line over the numbers held: its slope is the cost
of one more stream.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from live_clients import PIECE, cpu_seconds, resident_mib, server, speak, speech
from work import provenance, write_record

HERE = Path(__file__).parent
LATE = 0.5  # seconds: a client that is later measures itself


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="bundle, or name of a model")
    parser.add_argument("--audio", type=Path, help="folder of recordings (default: S2S_DATA/samples, the English ones)")
    parser.add_argument("--query", nargs="*", default=[], metavar="KEY=VALUE", help="of the sessions: chunk=0.64 ...")
    parser.add_argument("--seconds", type=float, default=60.0, help="of speech in each stream")
    parser.add_argument("--limit", type=float, default=1.0, help="seconds within which a final has to come")
    parser.add_argument("--most", type=int, default=256, help="streams to try")
    parser.add_argument("--streams", type=int, nargs="*", help="numbers to measure, in place of a search for the most")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="(default: results/serving_MODEL.json)")
    return parser.parse_args()


def recordings(folder: Path | None) -> list[Path]:
    """The recordings of a folder, or the English samples."""
    if folder is None:
        root = os.environ.get("S2S_DATA")
        if not root:
            raise SystemExit("set S2S_DATA, or give --audio")
        rows = (Path(root) / "samples" / "manifest.tsv").read_text(encoding="utf-8").splitlines()
        names = [row.split("\t") for row in rows[1:]]
        return [Path(root) / "samples" / row[1] for row in names if row[2] == "en" and float(row[3]) <= 12]
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac", ".opus", ".ogg", ".mp3"))
    if not found:
        raise SystemExit(f"{folder}: no recordings there")
    return found


async def measured(count: int, address: str, pid: int, query: dict[str, str], paths: list[Path], seconds: float) -> Any:
    """What so many streams at once are told, and when."""
    inputs = [speech(paths, seconds, seed) for seed in range(count)]
    heard = sum(map(len, inputs)) / 2 / 16000
    before = cpu_seconds(pid)
    waits = [10.0 * i / count for i in range(count)]  # not all in step
    streams = await asyncio.gather(
        *(speak(address, query, data, wait) for data, wait in zip(inputs, waits, strict=True))
    )
    final = sorted(delay for stream in streams for delay in stream.final)
    spoken = sorted(delay for stream in streams for delay in stream.spoken)
    return {
        "streams": count,
        "finals": len(final),
        "final_delay_median": statistics.median(final) if final else math.inf,
        "final_delay_95": float(np.quantile(final, 0.95)) if final else math.inf,
        "final_delay_most": final[-1] if final else math.inf,
        "spoken_median": statistics.median(spoken) if spoken else math.inf,
        "spoken_95": float(np.quantile(spoken, 0.95)) if spoken else math.inf,
        "cpu_seconds_per_second": (cpu_seconds(pid) - before) / heard * count,
        "client_behind": max(stream.behind for stream in streams),
        "errors": sorted({stream.error for stream in streams if stream.error}),
        "resident_mib": resident_mib(pid),
    }


def main() -> None:
    args = parse()
    paths = recordings(args.audio)
    query = dict(each.split("=", 1) for each in args.query)
    rows: dict[int, dict[str, Any]] = {}

    def held(count: int) -> bool:
        if count not in rows:
            rows[count] = asyncio.run(measured(count, address, pid, query, paths, args.seconds))
            print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[count].items()}, flush=True)
        row = rows[count]
        return not row["errors"] and row["final_delay_95"] <= args.limit and row["client_behind"] <= LATE

    with server(args.model, args.threads) as (address, pid):
        asyncio.run(measured(1, address, pid, query, paths[:1], 5.0))  # warm
        if args.streams:
            for count in args.streams:
                held(count)
        else:
            low, high = 0, 1
            while high <= args.most and held(high):
                low, high = high, 2 * high
            high = min(high, args.most + 1)
            while high - low > max(1, low // 16):
                middle = (low + high) // 2
                low, high = (middle, high) if held(middle) else (low, middle)
    kept = [row for count, row in sorted(rows.items()) if held(count)]
    slope = None
    if len(kept) > 1:
        slope = float(
            np.polyfit([row["streams"] for row in kept], [row["cpu_seconds_per_second"] for row in kept], 1)[0]
        )
    name = Path(args.model).parent.name if Path(args.model).exists() else args.model
    record = {
        "measured": provenance(args.threads),
        "model": args.model if not Path(args.model).exists() else name,
        "query": query,
        "seconds": args.seconds,
        "piece": PIECE,
        "limit": args.limit,
        "most_streams": max((row["streams"] for row in kept), default=0),
        "cost_of_one_more": slope,
        "rows": [row for _, row in sorted(rows.items())],
    }
    out = args.out or HERE / "results" / f"serving_{name}.json"
    write_record(record, out)
    print(f"{record['most_streams']} streams; one more costs {slope} s of a core for a second of speech; {out}")


if __name__ == "__main__":
    main()
