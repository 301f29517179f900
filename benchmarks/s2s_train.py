"""Training steps of our Conformer hybrid on the batch of `training.py`, which calls this, as the peers take them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from steps import TrainingWork, measure

from s2s.models.build import build
from s2s.models.hybrid import HybridModel
from s2s.training.memory import keep_freed_memory


def main() -> None:
    work = TrainingWork(ArgumentParser(description=__doc__))
    keep_freed_memory()  # as a training does
    model = build(work.config["model"])
    assert isinstance(model, HybridModel)

    def loss() -> Tensor:
        return model(work.source, work.source_lengths, work.target, work.target_lengths).total

    measure(work, model, loss, ("s2s", "torch"), "HybridModel as `s2s train` runs it, without SpecAugment")


if __name__ == "__main__":
    main()
