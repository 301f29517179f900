"""Work spread over processes of this machine or over a Ray cluster, and a journal of what is done."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from s2s.errors import UserError

Share = TypeVar("Share")
Work = Callable[[Any], None]

Jobs = Annotated[int, typer.Option(min=1, help="Processes that work side by side, each with the model.")]
Executor = Annotated[
    str, typer.Option(metavar="local|ray", help="Where they run: this machine, or the Ray cluster of RAY_ADDRESS.")
]
EXECUTORS = ("local", "ray")


class Journal:
    """Records by name in a folder, a file for each process that writes, a line for each record as soon as it is known.

    A process that is killed leaves what it had written; half a line counts as nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: Path | None = None

    def write(self, name: str, record: dict[str, Any]) -> None:
        if self._own is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = self.folder / f"{uuid.uuid4().hex}.jsonl"
        with self._own.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, **record}, ensure_ascii=False) + "\n")

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every whole record with its name."""
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                yield record.pop("name"), record

    def read(self) -> dict[str, dict[str, Any]]:
        """The records by name, where each has one."""
        return dict(self.records())


def check_executor(executor: str) -> None:
    """UserError for one that there is not, or whose package is missing."""
    if executor not in EXECUTORS:
        raise UserError(f"--executor {executor}: expected one of {', '.join(EXECUTORS)}")
    if executor == "ray":
        from s2s.optional import require

        require("--executor ray", ["ray"], "ray")


def dealt(things: Sequence[Share], jobs: int) -> list[list[Share]]:
    """The shares of so many jobs, alike where things are in the order of their size; none is empty."""
    return [list(things[number::jobs]) for number in range(min(jobs, len(things)))]


def run_jobs(
    work: Work, shares: Sequence[Any], executor: str, watch: Callable[[], None] = lambda: None
) -> list[str | None]:
    """Call `work` with each share in a process of its own -> of each, None, or why it did not come to its end.

    `watch` is called now and then meanwhile. What a `work` raises as UserError is raised here; a process that dies does
    not end the others.
    """
    return (_on_ray if executor == "ray" else _here)(work, shares, watch)


def until_done(rest: Callable[[], Sequence[Share]], run: Callable[[Sequence[Share]], Sequence[str | None]]) -> None:
    """Run what is left until nothing is; UserError where processes die and nothing gets done any more."""
    left = rest()
    while left:
        failed = [each for each in run(left) if each is not None]
        still = rest()
        if failed and still and len(still) == len(left):
            raise UserError(
                f"{len(failed)} processes ended early, the first: {failed[0]}; nothing more gets done. Out of memory? "
                "Give fewer --jobs. What is done is kept: the same command goes on from there"
            )
        if failed and still:
            print(f"s2s: {failed[0]}; others go on with the {len(still)} that are left", file=sys.stderr)
        if not failed and still:
            raise UserError(f"{len(still)} are left over and no process said why; run the same command again")
        left = still


def _here(work: Work, shares: Sequence[Any], watch: Callable[[], None]) -> list[str | None]:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe(duplex=False) for _ in shares]
    processes = [
        context.Process(target=_child, args=(work, share, theirs, os.getpid(), len(shares)), daemon=True)
        for share, (_, theirs) in zip(shares, pairs, strict=True)
    ]
    try:
        for process, (_, theirs) in zip(processes, pairs, strict=True):
            process.start()
            theirs.close()
        while any(process.is_alive() for process in processes):
            watch()
            time.sleep(0.2)
            for ours, _ in pairs:
                _raise_from(ours)
        for ours, _ in pairs:
            _raise_from(ours)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
        for process in processes:
            process.join()
    watch()
    return [
        None if process.exitcode == 0 else f"a process ended with {_exit(process.exitcode)}" for process in processes
    ]


def _raise_from(ours: Any) -> None:
    try:
        if ours.poll():
            raise UserError(ours.recv())
    except EOFError:
        pass


def _exit(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _child(work: Work, share: Any, pipe: Any, parent: int, number: int) -> None:
    import torch

    def watch() -> None:  # a parent that is killed leaves no one behind
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(max(1, torch.get_num_threads() // number))
    try:
        work(share)
    except UserError as error:
        pipe.send(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _on_ray(work: Work, shares: Sequence[Any], watch: Callable[[], None]) -> list[str | None]:
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    remote = ray.remote(max_retries=0)(_message)
    waiting = {remote.remote(work, share): number for number, share in enumerate(shares)}
    found: list[str | None] = [None] * len(shares)
    while waiting:
        done, _ = ray.wait(list(waiting), timeout=0.5)
        watch()
        for each in done:
            number = waiting.pop(each)
            try:
                message = ray.get(each)
            except Exception as error:  # Ray has many, for machines and processes that are gone
                found[number] = f"Ray: {str(error).splitlines()[0]}"
                continue
            if message is not None:
                raise UserError(message)
    return found


def _message(work: Work, share: Any) -> str | None:
    try:
        work(share)
    except UserError as error:
        return str(error)
    return None
