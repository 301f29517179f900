"""Parameters that a training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from s2s.errors import UserError, nearest


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Have the parameters that `patterns` name get no gradient -> the batch norms whose statistics stay too.

    A pattern is the name of a module or parameter, in whose parts * and ? stand for others; a module stands for all
    below it. Raises UserError for a pattern that names no parameter, and where nothing is left to train.
    """
    parameters = list(model.named_parameters(remove_duplicate=False))  # a shared one goes by each of its names
    for pattern in patterns:
        if not any(names(pattern, name) for name, _ in parameters):
            there = {name.rsplit(".", n)[0]: None for name, _ in parameters for n in range(name.count(".") + 1)}
            outermost = ", ".join(name for name in there if "." not in name)
            raise UserError(
                f"training.freeze: '{pattern}' names no parameter.{nearest(pattern, there)} Expected one of "
                f"{outermost}, or names below them, such as {parameters[0][0]}"
            )
    for name, parameter in parameters:
        if any(names(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"training.freeze={list(patterns)}: nothing is left to train; freeze less")
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and any(names(pattern, name) for pattern in patterns)
    ]


def learning_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Those that are not frozen, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def names(pattern: str, name: str) -> bool:
    """Whether a pattern is the name itself, or of a module that it is below."""
    wanted, parts = pattern.split("."), name.split(".")
    return len(wanted) <= len(parts) and all(map(fnmatchcase, parts, wanted))
