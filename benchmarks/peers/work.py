"""What the scripts that decode a work share: options, files, batches, timing, the answer.

Runs in the peers' environment and in ours, so it needs torch, safetensors and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
Utterance = dict[str, Any]


def arguments(description: str | None) -> ArgumentParser:
    parser = ArgumentParser(description=description)
    parser.add_argument("work", type=Path, help="folder that benchmarks/decoding.py made")
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, help="decode only the first so many utterances")
    return parser


class Work:
    """The files of WORK_DIR; `utterances` are the first `limit`, shortest first. Sets the number of threads."""

    def __init__(self, options: Namespace) -> None:
        torch.set_num_threads(options.threads)
        self.config: dict[str, Any] = json.loads((options.work / "work.json").read_text(encoding="utf-8"))
        self.utterances: list[Utterance] = sorted(
            self.config["utterances"][: options.limit], key=lambda utterance: utterance["frames"]
        )
        self.weights: dict[str, Tensor] = load_file(options.work / "model.safetensors")
        self.memories: dict[str, Tensor] = load_file(options.work / "memory.safetensors")
        self.features: dict[str, Tensor] = load_file(options.work / "features.safetensors")

    def batches(self, batch_size: int) -> list[list[Utterance]]:
        """Batches of utterances of about the same length."""
        return [self.utterances[i : i + batch_size] for i in range(0, len(self.utterances), batch_size)]


def timed(
    name: str, run: Callable[[Item], Result], items: Sequence[Item], repeats: int, warm_up: Item
) -> tuple[list[float], list[Result]]:
    """Seconds of each repeat over all items, after one run of `warm_up`; the results of the last repeat."""
    run(warm_up)
    seconds: list[float] = []
    results: list[Result] = []
    for repeat in range(repeats):
        results = []
        started = time.perf_counter()
        for number, item in enumerate(items, 1):
            results.append(run(item))
            print(f"{name} {repeat + 1}: {number} of {len(items)}", file=sys.stderr)
        seconds.append(time.perf_counter() - started)
    return seconds, results


def peak_rss_mb() -> float:
    """Most memory this process has held, in MiB (Linux; `ru_maxrss` would count the process that started this one)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def write_answer(options: Namespace, packages: Sequence[str], **answer: Any) -> None:
    """The answer, with the versions of `packages`, the first of which is the peer."""
    versions = {name: version(name) for name in packages}
    record = {"peer": packages[0], "versions": versions, "threads": options.threads, **answer}
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
