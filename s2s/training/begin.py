"""The weights of another model, for a training to begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch import nn

from s2s.audio.features import Features, features_config
from s2s.errors import UserError
from s2s.models.bundle import TOKENIZER, Bundle, load_bundle, read_config, read_weights
from s2s.models.lm_bundle import check_vocabulary
from s2s.tokenizers.load import load_tokenizer
from s2s.training.freeze import names
from s2s.training.task import Trained

FEW = 5  # names that stand for many


def take_weights(bundle: Trained, folder: str, say: Callable[[str], None], only: Sequence[str] = ()) -> set[str]:
    """Give a model the weights of the bundle in `folder` that have the name and shape of its own -> their names.

    Those alone that the patterns of `only` name, if there are any, as in `freeze`. Raises UserError where that bundle
    has another tokenizer and there are none, or other features, or no parameter fits.
    """
    key = f"training.init={folder}"
    read_config(folder, ())
    if not only:
        try:
            check_vocabulary(load_tokenizer(Path(folder) / TOKENIZER), bundle.tokenizer, key)
        except UserError as error:
            raise UserError(
                f"{error}, or train with tokenizer={folder}/{TOKENIZER}, or take what knows no tokens: "
                "training.init_only=[encoder]"
            ) from error
    if isinstance(bundle, Bundle):
        _check_features(load_bundle(folder, "cpu", nn.Module).features, bundle.features, key)
    own, theirs = bundle.model.state_dict(), read_weights(folder)
    theirs = {name: tensor for name, tensor in theirs.items() if not only or any(names(each, name) for each in only)}
    taken = {name: tensor for name, tensor in theirs.items() if name in own and tensor.shape == own[name].shape}
    if not any(name in taken for name, _ in bundle.model.named_parameters()):
        raise UserError(
            f"{key}: none of its tensors ({_some(theirs)}) has the name and shape of one of this model's "
            f"({_some(own)}); give the bundle of a model of the same kind"
        )
    bundle.model.load_state_dict(taken, strict=False)
    said = [f"{key}: {len(taken)} of {len(own)} tensors taken"]
    if reshaped := [name for name in own if name in theirs and name not in taken]:
        shapes = (f"{name} {tuple(theirs[name].shape)} for {tuple(own[name].shape)}" for name in reshaped)
        said.append(f"{len(reshaped)} of another shape left as they are: {', '.join(shapes)}")
    if new := [name for name in own if name not in theirs]:
        said.append(f"{len(new)} new: {_some(new)}")
    if unknown := [name for name in theirs if name not in own]:
        said.append(f"{len(unknown)} not in this model: {_some(unknown)}")
    say("; ".join(said))
    return set(taken)


def _check_features(theirs: Features, ours: Features, key: str) -> None:
    """UserError where what is heard differs; noise that is added in training may."""
    a, b = ({**features_config(each), "dither": None} for each in (theirs, ours))
    if wrong := [f"features.{name}={a.get(name)}, here {b.get(name)}" for name in a | b if a.get(name) != b.get(name)]:
        raise UserError(f"{key}: it hears other features ({'; '.join(wrong)}); train with its own")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")
