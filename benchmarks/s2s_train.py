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
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--front-channels", type=int, help="of each of its convolutions (default: the width)")
    work = TrainingWork(parser)
    keep_freed_memory()  # as a training does
    config = work.config["model"]
    if work.options.front_channels:
        config["encoder"]["front"]["channels"] = work.options.front_channels
    model = build(config)
    assert isinstance(model, HybridModel)

    def loss() -> Tensor:
        return model(work.source, work.source_lengths, work.target, work.target_lengths).total

    measure(work, model, loss, ("s2s", "torch"), "HybridModel as `s2s train` runs it, without SpecAugment")


if __name__ == "__main__":
    main()
