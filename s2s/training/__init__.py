"""The loop, schedules, checkpoints, averaging, curves."""
