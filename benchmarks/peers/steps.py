"""What the scripts that take training steps share: options, the batch, timing, the answer.

Runs in the peers' environment and in ours, so it needs torch, safetensors and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from work import peak_rss_mb, write_answer

WARM_UP = 2  # steps; the peers' take less time from one to the next until memory is where they want it


class TrainingWork:
    """The files of WORK_DIR and the options; sets the number of threads and the seed."""

    def __init__(self, parser: ArgumentParser) -> None:
        parser.add_argument("work", type=Path, help="folder that benchmarks/training.py made")
        parser.add_argument("out", type=Path, help="JSON to write")
        parser.add_argument("--threads", type=int, default=2)
        parser.add_argument("--repeats", type=int, default=5, help="steps that are timed, after those that are not")
        self.options: Namespace = parser.parse_args()
        torch.set_num_threads(self.options.threads)
        torch.manual_seed(1)
        self.config: dict[str, Any] = json.loads((self.options.work / "work.json").read_text(encoding="utf-8"))
        batch = load_file(self.options.work / "batch.safetensors")
        self.source: Tensor = batch["source"]  # (B,S,F)
        self.source_lengths: Tensor = batch["source_lengths"]
        self.target: Tensor = batch["target"]  # (B,U)
        self.target_lengths: Tensor = batch["target_lengths"]


def measure(
    work: TrainingWork, model: nn.Module, loss_of: Callable[[], Tensor], packages: Sequence[str], notes: str
) -> None:
    """Time steps of AdamW on the batch, whose loss `loss_of` returns, and write the answer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=packages[0] == "s2s")
    model.train()
    seconds: list[float] = []
    losses: list[float] = []
    for number in range(WARM_UP + work.options.repeats):
        started = time.perf_counter()
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - started)
        print(f"{packages[0]}: step {number}: {seconds[-1]:.2f} s", file=sys.stderr)
    write_answer(
        work.options,
        packages,
        step_seconds=seconds[WARM_UP:],
        peak_rss_mb=peak_rss_mb(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        losses=losses,
        notes=notes,
    )
