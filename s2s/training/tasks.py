"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable

from s2s.errors import UserError, nearest
from s2s.training.config import TrainConfig
from s2s.training.denoising import Denoising
from s2s.training.language_modelling import LanguageModelling
from s2s.training.recognition import Recognition
from s2s.training.speech_translation import SpeechTranslation
from s2s.training.task import Task
from s2s.training.text_translation import TextTranslation

TASKS: dict[str, Callable[[TrainConfig], Task]] = {
    "recognition": Recognition,
    "translation": TextTranslation,
    "denoising": Denoising,
    "speech_translation": SpeechTranslation,
    "language_model": LanguageModelling,
}


def make_task(config: TrainConfig) -> Task:
    """What `config.task` names, with a fresh model; UserError says what is wrong with it."""
    if config.task not in TASKS:
        raise UserError(f"task={config.task}: expected one of {', '.join(TASKS)}.{nearest(config.task, TASKS)}")
    return TASKS[config.task](config)
