"""What training measured, kept as JSON lines and drawn as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s2s.files import replacing


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """One record an epoch, in order; none if the file does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_metrics(path: Path, records: list[dict[str, Any]]) -> None:
    """Write all records anew: a resumed training must leave no record of epochs it did not keep."""
    with replacing(path) as beside:
        beside.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Draw losses, the error that is validated, and the learning rate against epochs into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = [record["epoch"] for record in records]
    figure, (losses, errors, rates) = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for key, label in (("train_loss", "train"), ("valid_loss", "valid")):
        losses.plot(epochs, [record[key] for record in records], label=label, marker=".")
    losses.set(title="loss (nats per token)", xlabel="epoch")
    losses.legend()
    error = next(key for key in records[-1] if key.startswith("valid_") and key.endswith("_error"))
    errors.plot(epochs, [100 * record[error] for record in records], marker=".", color="tab:red")
    title = error.removeprefix("valid_").replace("_", " ").replace("ctc", "CTC")
    errors.set(title=f"{title} on valid (%)", xlabel="epoch", ylim=(0, None))
    rates.plot(epochs, [record["learning_rate"] for record in records], marker=".", color="tab:green")
    rates.set(title="learning rate", xlabel="epoch", ylim=(0, None))
    for axes in (losses, errors, rates):
        axes.grid(alpha=0.3)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    pyplot.close(figure)
