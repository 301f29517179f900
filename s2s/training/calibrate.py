"""`batch=auto`: how many utterances of each length fit into memory, measured before the first step."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import platform
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from lightning_fabric import Fabric

from s2s.data.batch_sizes import NAME, BatchSizes, keep_sizes, load_sizes, place
from s2s.data.buckets import Buckets, Lengths
from s2s.errors import UserError
from s2s.training.config import TrainConfig, plain
from s2s.training.memory import (
    GIGABYTE,
    available,
    buffers_restored,
    fixed_bytes,
    is_out_of_memory,
    keep_freed_memory,
    kept_bytes,
    step_peak,
    synthetic,
)
from s2s.training.task import Task

SHAPES = 4, 3  # ranges of source and of target length that are measured
RESOLUTION = 16  # sizes are found to a sixteenth
SHARE = 0.8  # of what is free, where no budget is given

Fits = Callable[[Lengths, int], bool]


def largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest size up to `most` that fits, to a sixteenth; `least` is known to, and 0 says that not even 1 does.

    It is doubled while it fits, then bisected.
    """
    low, high = least, most + 1
    while high - low > max(1, low // RESOLUTION):
        size = min(most, 2 * low or 1) if high > most else (low + high) // 2
        if fits(size):
            low = size
        else:
            high = size
        if low == most:
            break
    return low


def calibrated(tops: list[Lengths], fits: Fits, most: int, say: Callable[[str], None]) -> BatchSizes:
    """The largest batch of each shape; what fits of a shape fits of a smaller one, and is not tried there.

    Raises UserError where one utterance of the largest lengths does not fit.
    """
    sizes: dict[Lengths, int] = {}
    for top in sorted(tops, reverse=True):
        known = max((sizes[each] for each in sizes if each[0] >= top[0] and each[1] >= top[1]), default=0)
        sizes[top] = largest(lambda size, top=top: fits(top, size), known, most)  # type: ignore[misc]
        if not sizes[top]:
            raise UserError(
                f"batch=auto: not even one utterance of {top[0]:.1f} and {top[1]:.0f} target tokens fits into memory; "
                "leave out long ones, take a smaller model, or give more memory (memory=, in gigabytes)"
            )
        say(f"batch=auto: {sizes[top]} utterances of up to {top[0]:.1f} and {top[1]:.0f} target tokens")
    return BatchSizes(tops, [sizes[top] for top in tops])


def batch_sizes(config: TrainConfig, task: Task, device: torch.device, say: Callable[[str], None]) -> BatchSizes:
    """The sizes of `batch=auto`: those beside the data, measured with the same model, config and machine, or new ones.

    `memory` is the budget in gigabytes, else a share of what is free.
    """
    sizing = task.sizing()
    tops = Buckets.of(sizing.lengths, *SHAPES).tops()
    budget = config.memory * GIGABYTE if config.memory else SHARE * available(device)
    where, about = place(sizing.data), _about(config, device)
    key = hashlib.sha256(json.dumps([about, tops], sort_keys=True).encode()).hexdigest()[:16]
    if (kept := load_sizes(where, key)) is not None:
        say(f"batch=auto: sizes from {where} ({key})")
        return kept
    most = min(len(sizing.lengths), sizing.max_size or len(sizing.lengths))
    say(f"batch=auto: measuring what fits into {budget / GIGABYTE:.2g} GB on {device}")
    if device.type == "cuda":
        sizes = calibrated(tops, _Here(task, device, budget), most, say)
    else:
        with _Child(config, budget) as child:
            sizes = calibrated(tops, child, most, say)
    try:
        keep_sizes(where, key, sizes, about)
        say(f"batch=auto: kept in {where} ({key})")
    except OSError as error:
        say(f"batch=auto: not kept beside the data: {where}: {error.strerror or error}")
    return sizes


def size_batches(config: TrainConfig, task: Task, fabric: Fabric, say: Callable[[str], None]) -> None:
    """Give a task the batch sizes of `batch=auto`, where they are to be measured, and say what memory this takes.

    A training keeps them in its folder, and goes on with those it began with.
    """
    sharded = config.training.strategy == "fsdp"
    device = torch.device("cpu") if sharded else fabric.device
    model = task.bundle.model.to(device).train()
    if config.batch == "auto":
        if sharded:
            raise UserError("batch=auto: measures a whole model on its device, and training.strategy=fsdp shards it")
        own, name = Path(config.exp_dir) / NAME, "training"
        if fabric.is_global_zero and load_sizes(own, name) is None:
            keep_sizes(own, name, batch_sizes(config, task, device, say), {})
        fabric.barrier()
        task.batch_size = load_sizes(own, name)
    if fabric.is_global_zero:
        say(estimate(task, device))
    model.zero_grad(set_to_none=True)


def estimate(task: Task, device: torch.device) -> str:
    """What a training step is going to take, by the shape that takes most, as it is told before the start.

    A forward pass of two utterances of each of a few shapes shows what is kept for the backward pass.
    """
    model, sizing = task.bundle.model, task.sizing()
    if not len(sizing.example):
        return "memory: not estimated, the first recordings cannot be read"
    base, size = fixed_bytes(model), task.batch_size or sizing.size
    most, shape = 0.0, ""
    for top in Buckets.of(sizing.lengths, 2, 2).tops():
        few = synthetic(sizing.example, 2, sizing.frames(top[0]), int(top[1])).to(device)
        kept = buffers_restored(model, partial(kept_bytes, model, partial(task.losses, model, few, 0)))
        count = min(size(*top), len(sizing.lengths))
        if count * kept / 2 > most:
            most, shape = count * kept / 2, f"{count} x {top[0]:.1f} and {top[1]:.0f} target tokens"
    return (
        f"memory: about {(base + most) / GIGABYTE:.2g} GB: {base / GIGABYTE:.2g} of weights, gradients and Adam's "
        f"moments, {most / GIGABYTE:.2g} kept of the largest batch ({shape})"
    )


class _Here:
    """Trials in this process, on a GPU, whose allocator knows what it has given."""

    def __init__(self, task: Task, device: torch.device, budget: float) -> None:
        self.task, self.device, self.budget = task, device, budget
        self.sizing = task.sizing()
        self.moments = fixed_bytes(task.bundle.model)

    def __call__(self, top: Lengths, size: int) -> bool:
        model = self.task.bundle.model
        weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        learning = (self.moments - weights) // 3
        batch = synthetic(self.sizing.example, size, self.sizing.frames(top[0]), int(top[1])).to(self.device)
        try:
            step = partial(self.task.losses, model, batch, 0)
            peak = buffers_restored(model, partial(step_peak, model, step, self.device))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            model.zero_grad(set_to_none=True)
            return False
        return bool(peak + 2 * learning <= self.budget)


class _Child:
    """Trials in a process of their own, whose resident memory is measured; where it is killed, it did not fit."""

    def __init__(self, config: TrainConfig, budget: float) -> None:
        self.config, self.budget = config, budget

    def __enter__(self) -> _Child:
        context = multiprocessing.get_context("spawn")
        self.ours, theirs = context.Pipe()
        self.process = context.Process(target=_trials, args=(theirs, self.config, self.budget), daemon=True)
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *error: object) -> None:
        self.ours.close()
        self.process.kill()
        self.process.join()

    def __call__(self, top: Lengths, size: int) -> bool:
        try:
            self.ours.send((top, size))
            found = self.ours.recv()
        except (EOFError, OSError):  # the system has killed it
            self.__exit__()
            self.__enter__()
            return False
        if isinstance(found, UserError):
            raise found
        return bool(found)


def _trials(ours: Connection, config: TrainConfig, budget: float) -> None:
    """What the child does: it makes the same model, and tries what it is told to."""
    import resource

    from s2s.training.tasks import make_task

    def quiet(text: str) -> None:
        pass

    try:
        keep_freed_memory()
        task = make_task(config)
        task.load(quiet)
        task.bundle.model.train()
        fits = _Here(task, torch.device("cpu"), budget)
        soft = int(1.5 * budget) + 2 * 10**9  # so that the machine does not run out before the trial says so
        resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        while True:
            ours.send(fits(*ours.recv()))
    except EOFError:
        pass
    except UserError as error:
        ours.send(error)


def _about(config: TrainConfig, device: torch.device) -> dict[str, object]:
    """What sizes depend on."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.node()
    return {
        "model": plain(dict(config.model)),
        "vocab_size": config.vocab_size,
        "task": config.task,
        "features": plain(asdict(config.features)),
        "precision": config.training.precision,
        "freeze": list(config.training.freeze),
        "memory": config.memory,
        "machine": machine,
    }
