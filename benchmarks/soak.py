"""An hour of real speech, again and again, over many connections: does memory grow, does the delay?

    python benchmarks/soak.py --model whisper-tiny.en --minutes 60 --plot soak.png

A server runs in a process of its own. `--streams` clients speak recordings at the speed of speech, for `--lengths`,
and begin anew; one in eight is killed in the midst of it, without a word. Two more send files, one after the other; one
in eight of these is broken. Every `--every` seconds memory, open files, sessions and the delays of finals since then
are noted. The exit code is 1 where the same audio gave another text than the first time, a good request failed, a
session is left at the end, or the memory of the last quarter is more than a tenth above that of the second: the first
warms up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
from live_clients import resident_mib, server, speak, speech
from serving import recordings
from work import provenance, write_record

HERE = Path(__file__).parent
GROWTH = 1.1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="whisper-tiny.en", help="bundle, or name of a model")
    parser.add_argument("--audio", type=Path, help="folder of recordings (default: S2S_DATA/samples, the English ones)")
    parser.add_argument("--query", nargs="*", default=[], metavar="KEY=VALUE", help="of the sessions: chunk=0.64 ...")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=2, help="live sessions at once")
    parser.add_argument("--lengths", type=float, nargs="+", default=[20.0, 40.0, 60.0], help="seconds of a session")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two notes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "soak.json")
    parser.add_argument("--plot", type=Path, help="picture of memory and delay over time")
    return parser.parse_args()


class Soak:
    """What is done to a server, and what came of it."""

    def __init__(self, address: str, pid: int, options: argparse.Namespace) -> None:
        self.address, self.pid, self.options = address, pid, options
        self.paths = recordings(options.audio)
        self.query = dict(each.split("=", 1) for each in options.query)
        self.end = time.monotonic() + 60 * options.minutes
        self.begun = time.monotonic()
        self.delays: list[float] = []
        self.texts: dict[str, str] = {}
        self.counts = {"sessions": 0, "killed": 0, "files": 0, "broken": 0}
        self.problems: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def same(self, key: str, text: str) -> None:
        """Note a text; the same audio has to give the same."""
        if self.texts.setdefault(key, text) != text:
            self.problems.append(f"{key}: '{text}' was '{self.texts[key]}'")

    async def live(self, number: int) -> None:
        """Sessions, one after the other."""
        choice = random.Random(number)
        while time.monotonic() < self.end:
            seed, seconds = choice.randrange(8), choice.choice(self.options.lengths)
            data = await asyncio.to_thread(speech, self.paths, seconds, seed)
            if choice.randrange(8) == 0:
                task = asyncio.create_task(speak(self.address, self.query, data))
                await asyncio.sleep(choice.uniform(0.1, 0.5) * seconds)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self.counts["killed"] += 1
                continue
            found = await speak(self.address, self.query, data, on_final=lambda delay: self.delays.append(delay))
            self.counts["sessions"] += 1
            if found.error:
                self.problems.append(f"a session: {found.error}")
            else:
                self.same(f"live {seed} {seconds:g}", " ".join(found.texts))

    async def files(self, number: int) -> None:
        """Files, one after the other."""
        choice = random.Random(1000 + number)
        async with httpx.AsyncClient(timeout=300) as client:
            while time.monotonic() < self.end:
                path = choice.choice(self.paths)
                is_broken = choice.randrange(8) == 0
                content = path.read_bytes()[: 1000 if is_broken else None]
                answer = await client.post(f"{self.address}/v1/audio/transcriptions", files={"file": content})
                if answer.status_code != (422 if is_broken else 200):
                    self.problems.append(f"{path.name}: {answer.status_code} {answer.text[:200]}")
                elif not is_broken:
                    self.same(f"file {path.name}", answer.json()["text"])
                self.counts["broken" if is_broken else "files"] += 1
                await asyncio.sleep(choice.uniform(2.0, 10.0))

    async def watch(self) -> None:
        """Note how the server is, now and then."""
        async with httpx.AsyncClient(timeout=60) as client:
            while time.monotonic() < self.end:
                await asyncio.sleep(min(self.options.every, max(0.0, self.end - time.monotonic())))
                health = (await client.get(f"{self.address}/health")).json()
                recent, self.delays = sorted(self.delays), []
                row = {
                    "minutes": (time.monotonic() - self.begun) / 60,
                    "resident_mib": resident_mib(self.pid),
                    "open_files": len(os.listdir(f"/proc/{self.pid}/fd")),
                    "sessions": health["sessions"],
                    "final_delay_median": statistics.median(recent) if recent else None,
                    "final_delay_most": recent[-1] if recent else None,
                }
                self.rows.append(row)
                print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)

    async def run(self) -> None:
        """All of it, and whether anything is left."""
        clients = [self.live(i) for i in range(self.options.streams)] + [self.files(i) for i in range(2)]
        await asyncio.gather(self.watch(), *clients)
        for _ in range(100):
            health = httpx.get(f"{self.address}/health").json()
            if not health["sessions"] and not health["requests"]:
                return
            await asyncio.sleep(0.1)
        self.problems.append(f"left at the end: {health}")

    @property
    def growth(self) -> float:
        """Memory of the last quarter, of that of the second."""
        memory = [row["resident_mib"] for row in self.rows]
        quarter = max(1, len(memory) // 4)
        return max(memory[-quarter:]) / max(memory[quarter : 2 * quarter] or memory[:1])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Memory and delay over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    minutes = [row["minutes"] for row in rows]
    top.plot(minutes, [row["resident_mib"] for row in rows])
    top.set(ylabel="memory of the process (MiB)", ylim=(0, None))
    for name, label in (("final_delay_median", "median"), ("final_delay_most", "largest")):
        bottom.plot(minutes, [float("nan") if row[name] is None else row[name] for row in rows], label=label)
    bottom.set(xlabel="minutes", ylabel="delay of final texts (s)", ylim=(0, None))
    bottom.legend()
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    options = parse()
    with server(options.model, options.threads) as (address, pid):
        soak = Soak(address, pid, options)
        asyncio.run(soak.run())
    if options.minutes >= 10 and soak.growth > GROWTH:
        soak.problems.append(f"memory grew: {soak.growth:.2f} times")
    record = {
        "measured": provenance(options.threads),
        "counts": soak.counts,
        "growth": soak.growth,
        "problems": soak.problems,
        "rows": soak.rows,
    }
    write_record(record, options.out)
    if options.plot:
        draw(soak.rows, options.plot)
    print(f"{soak.counts}, memory {soak.growth:.2f} times, {len(soak.problems)} problems")
    for problem in soak.problems[:20]:
        print(problem)
    raise SystemExit(bool(soak.problems))


if __name__ == "__main__":
    main()
