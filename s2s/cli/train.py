"""`s2s train`: train a model from a config."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from s2s.cli.options import ConfigDir

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE...", help="Overrides, Hydra style: optim.learning_rate=5e-4 model=conformer_small"
    ),
]


def train(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    config_name: Annotated[str, typer.Option(metavar="NAME", help="Config to start from.")] = "train",
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the whole config and exit.")] = False,
) -> None:
    """Train a model into `exp_dir`: recognition from Kaldi directories or Lhotse cuts, or what else `task` says.

    --config-name train_translation, train_speech_translation and train_lm begin with what these tasks need.

    Run again with the same `exp_dir`, it goes on where it stopped, with the same batches and the same losses. Ctrl-C
    saves first, and so does SIGTERM, by which schedulers end a job: the exit code is then 75, "try again".

    Example: s2s train exp_dir=exp/a tokenizer=data/tokenizer data.train=[data/train] data.valid=[data/valid]
    """
    from s2s.training.config import load_train_config, show

    config = load_train_config(config_name, overrides or [], config_dir, read_tokenizer=not show_config)
    if show_config:
        print(show(config), end="")
        return
    from s2s.training.interrupt import TrainingInterrupt
    from s2s.training.loop import Trainer

    try:
        Trainer(config).run()
    except TrainingInterrupt as stop:
        print(f"saved in {config.exp_dir}/states; run the same command again to go on from there")
        raise typer.Exit(REQUEUE if stop.args[0] == signal.SIGTERM else 130) from None
