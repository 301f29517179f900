"""What is done about memory where no training shows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from s2s.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(50_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print([faults() for _ in range(4)][-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of the C library of Linux")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 100 < faults("leave")
