"""What a training step takes of memory: synthetic batches, what is kept for the backward pass, peaks."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s2s.data.batch import Batch
from s2s.training.freeze import learning_parameters
from s2s.training.task import Losses

GIGABYTE = 1e9


def synthetic(batch: Batch, size: int, source: int, target: int) -> Batch:
    """A batch of `size` utterances of exactly so many frames (or tokens) and target tokens, of what is in `batch`."""
    rows = [row % len(batch) for row in range(size)]
    several = batch.source_lengths.shape[1:]
    spoken = batch.spoken
    return replace(
        batch,
        ids=[f"synthetic-{number}" for number in range(size)],
        source=_tiled(batch.source[rows], 1 + len(several), source),
        source_lengths=torch.full((size, *several), source),
        target=_tiled(batch.target[rows], 1, target),
        target_lengths=torch.full((size,), target),
        texts=[batch.texts[row] for row in rows],
        target_ends=None,
        asked=None if batch.asked is None else batch.asked.some(rows),
        spoken=None if spoken is None else (_tiled(spoken[0][rows], 1, target), torch.full((size,), target)),
    )


def _tiled(x: Tensor, dim: int, length: int) -> Tensor:
    """`x` repeated along a dimension up to a length."""
    if not length or not x.size(dim):
        return x.narrow(dim, 0, 0) if not length else x.new_ones((*x.shape[:dim], length, *x.shape[dim + 1 :]))
    return x.index_select(dim, torch.arange(length) % x.size(dim))


def in_parts(batch: Batch, limits: Sequence[tuple[int, int, int]]) -> list[tuple[Batch, float]]:
    """A batch in parts of at most the rows that (frames, tokens, rows) limits of its length allow, each with its share.

    The share is that of the target tokens, by which losses are means.
    """
    source, target = int(batch.source_lengths.max()), int(batch.target_lengths.max())
    rows = min((rows for frames, tokens, rows in limits if source >= frames and target >= tokens), default=len(batch))
    if rows >= len(batch):
        return [(batch, 1.0)]
    every = int(batch.target_lengths.sum())
    parts = [batch.rows(range(first, min(first + rows, len(batch)))) for first in range(0, len(batch), rows)]
    return [(part, int(part.target_lengths.sum()) / every if every else len(part) / len(batch)) for part in parts]


def fixed_bytes(model: nn.Module) -> int:
    """Weights, their gradients, and Adam's two moments."""
    learning = sum(p.numel() * p.element_size() for p in learning_parameters(model).values())
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())) + 3 * learning


def kept_bytes(model: nn.Module, losses: Callable[[], Losses]) -> int:
    """What a forward pass keeps for the backward pass, each tensor once, the parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = losses()
    del held
    return sum(found.values())


def step_peak(model: nn.Module, losses: Callable[[], Losses], device: torch.device) -> int:
    """The most bytes that a forward and backward pass hold at once, weights and gradients counted, Adam's moments not.

    On a CPU it is the resident memory of this process, less what it held before. Raises what torch raises for too much.
    """
    model.zero_grad(set_to_none=True)
    gc.collect()
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        losses().total.backward()
        peak = torch.cuda.max_memory_allocated(device)
    else:
        before = _clean_peak()
        losses().total.backward()
        peak = weights + max(0, _peak() - before)
    model.zero_grad(set_to_none=True)
    return peak


def keep_freed_memory() -> None:
    """Have the C library keep what tensors on the CPU give back, for those of the next step.

    glibc returns large blocks to the system and asks for them anew; every page is then filled with zeros first, which
    took a third of a training step. Other systems are left as they are.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # of malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)  # never
        libc.mallopt(top_pad, 64 << 20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, or the system through it, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def available(device: torch.device) -> int:
    """Bytes that a training may take: what is free of a GPU or of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        return 1024 * next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if "MemAvailable" in line)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _clean_peak() -> int:
    """Give back what is free, forget the peak so far -> the bytes that are resident."""
    status = Path("/proc/self/clear_refs")
    if status.exists():
        ctypes.CDLL(None).malloc_trim(0)
        status.write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def buffers_restored(model: nn.Module, losses: Callable[[], Any]) -> Any:
    """What `losses` gives, the model's buffers (statistics of batch norms) as they were before, and its chance too."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[] if not torch.cuda.is_available() else None):
        try:
            return losses()
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(before[name])
