"""Learning rates over time, as a factor of the peak rate."""

from __future__ import annotations

import math

from s2s.errors import UserError, nearest

SCHEDULES = ("noam", "cosine", "linear")


def check_schedule(schedule: str) -> None:
    """UserError unless `schedule` is one of SCHEDULES."""
    if schedule not in SCHEDULES:
        raise UserError(
            f"optim.schedule={schedule}: expected one of {', '.join(SCHEDULES)}.{nearest(schedule, SCHEDULES)}"
        )


def learning_rate_factor(schedule: str, step: int, warmup_steps: int, total_steps: int) -> float:
    """Factor in (0, 1] at `step` (from 1): a linear rise over `warmup_steps`, then a fall.

    "noam" falls with 1/√step (Vaswani et al. 2017, eq. 3, scaled to a peak of 1), "cosine" and "linear" reach a
    hundredth of the peak at `total_steps`.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    if schedule == "noam":
        return math.sqrt(max(warmup_steps, 1) / step)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    left = 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return 0.01 + 0.99 * left
