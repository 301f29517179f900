"""Many trainings from one command: `python -m s2s.cli.sweep --multirun KEY=VALUE,VALUE ...`, an application of Hydra.

It takes the overrides of `s2s train`, each with several values, and Hydra's own options: `--config-dir`,
`--config-name`, `hydra.sweep.dir`, `hydra/launcher=submitit_slurm`, `hydra/launcher=ray`. Each training goes into a
folder of its own, and run again it goes on from there.
"""

from __future__ import annotations

import sys

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from s2s.conf import writable
from s2s.errors import UserError
from s2s.training.config import TrainConfig, load_train_config


@hydra.main(config_path="pkg://s2s.conf", config_name="train", version_base="1.3")
def sweep(_: DictConfig) -> float:
    """One of the trainings -> its best validation loss, for what optimises it."""
    from s2s.training.interrupt import TrainingInterrupt
    from s2s.training.loop import Trainer

    running = HydraConfig.get()
    own = [source.path for source in running.runtime.config_sources if source.provider == "command-line"]
    overrides = [f"exp_dir={running.runtime.output_dir}", *running.overrides.task]
    try:
        trainer = Trainer(load_train_config(str(running.job.config_name), overrides, own[0] if own else None))
        trainer.run()
    except UserError as error:
        sys.exit(f"s2s: error: {error}")
    except TrainingInterrupt:
        sys.exit(75)
    return trainer.at.best[0][0] if trainer.at.best else float("inf")


def main() -> None:
    """Register what the configs are typed by, then let Hydra run."""
    ConfigStore.instance().store(name="schema", node=writable(TrainConfig), provider="s2s")
    sweep()


if __name__ == "__main__":
    main()
