"""Which attention heads matter, and a model without the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.attentions import attentions, options_of, with_options
from s2s.models.build import build_empty
from s2s.nn.attention.alibi import ALiBi
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.mixture import Mixture
from s2s.nn.attention.multi_head import MultiHead
from s2s.nn.attention.rectified import Rectified

Sample = TypeVar("Sample")
Kept = Mapping[str, Sequence[int]]  # the heads to keep, ascending, of each attention by its name in the model

# The parameters of an attention that are of its heads: (H*d,...), (D,H*d) and (H,...).
PROJECTIONS = ("heads.query", "heads.key", "heads.value", "scheme.projection", "stop.query", "stop.key")
OUTPUT = "heads.out.weight"
OF_EACH_HEAD = ("scheme.content_bias", "scheme.position_bias", "weighting.transform.a", "stop.bias")


def head_importance(model: nn.Module, samples: Iterable[Sample], loss: Callable[[Sample], Tensor]) -> dict[str, Tensor]:
    """How much each head (H,) of each attention matters: E|∂L(x)/∂ξ_h| over samples x, divided by its l2 norm.

    L is `loss`, a scalar, of the model in evaluation mode; ξ_h is a factor of what head h gives, 1 (Michel et al. 2019,
    arXiv:1905.10650, eq. 2 and section 4.1). Raises UserError where a gradient is not finite, and without samples.
    """
    model.eval()
    layers = attentions(model)
    total = {name: torch.zeros(each.num_heads, dtype=torch.float64) for name, each in layers.items()}
    empty = True
    # A network's LSTMs in evaluation mode have gradients only without cuDNN.
    with _factors(layers) as factors, torch.backends.cudnn.flags(enabled=False):
        for sample in samples:
            empty = False
            gradients = torch.autograd.grad(loss(sample), factors, allow_unused=True, materialize_grads=True)
            for name, gradient in zip(total, gradients, strict=True):
                total[name] += gradient.abs().double().cpu()
    if empty:
        raise UserError("there is nothing to measure the importance of heads on")
    for name, values in total.items():
        if not bool(values.isfinite().all()):
            raise UserError(f"{name}: the loss's gradients are not finite; are all weights of the model?")
    return {name: values / values.norm().clamp(min=torch.finfo().tiny) for name, values in total.items()}


@contextmanager
def _factors(layers: Mapping[str, Attention]) -> Iterator[list[Tensor]]:
    """A factor of 1 for each head of each attention, of which one can ask gradients."""
    try:
        for each in layers.values():
            like = each.heads.out.weight
            each.head_gates = torch.ones(each.num_heads, dtype=like.dtype, device=like.device, requires_grad=True)
        yield [each.head_gates for each in layers.values() if each.head_gates is not None]
    finally:
        for each in layers.values():
            each.head_gates = None


def check_share(keep: float) -> None:
    """UserError for a share of the heads that is not above 0 and up to 1."""
    if not 0.0 < keep <= 1.0:
        raise UserError(f"keep={keep:g}: expected a share of the heads above 0, and up to 1 for all of them")


def most_important(importance: Mapping[str, Tensor], keep: float) -> dict[str, list[int]]:
    """The heads to keep so that a share `keep` of all is left, the most important; of each attention at least one.

    `importance` is as `head_importance` gives it. Raises UserError for a share that is not above 0 and up to 1.
    """
    check_share(keep)
    kept = {name: [int(values.argmax())] for name, values in importance.items()}
    ranked = [(-value, name, head) for name, values in importance.items() for head, value in enumerate(values.tolist())]
    left = round(keep * len(ranked)) - len(kept)
    for _, name, head in sorted(ranked, key=lambda each: each[0]):
        if left > 0 and head not in kept[name]:
            kept[name].append(head)
            left -= 1
    return {name: sorted(heads) for name, heads in kept.items()}


def pruned(model: nn.Module, config: Mapping[str, Any], kept: Kept) -> tuple[nn.Module, dict[str, Any]]:
    """A model made of `config`, without all heads but those of `kept`, and the config that `build` makes it from.

    It gives what `model` gives where the results of all other heads are zero. Raises UserError where what a head does
    depends on others, or on its number, as `check_removable`.
    """
    layers = attentions(model)
    kept = {name: heads for name, heads in kept.items() if len(heads) < layers[name].num_heads}
    state = dict(model.state_dict())
    for name, heads in kept.items():
        check_removable(name, layers[name])
        for key, value in layers[name].state_dict().items():
            state[f"{name}.{key}"] = _part(key, value, torch.as_tensor(heads, device=value.device), layers[name])
    smaller = _config(model, config, layers, kept)
    result = build_empty(smaller, "model")
    wrong = [key for key, value in result.state_dict().items() if key not in state or state[key].shape != value.shape]
    if wrong:
        raise UserError(f"{wrong[0]}: heads of this model cannot be removed: its config does not tell their number")
    result.load_state_dict(state, assign=True)
    return result.train(model.training), smaller


def check_removable(name: str, attention: Attention) -> None:
    """UserError where an attention, of that name, has heads that cannot be removed one by one."""
    config, heads = attention.config, attention.heads
    reasons = {
        "heads share keys and values (kv_heads)": heads.kv_heads != heads.num_heads,
        f"projection={config.projection}": type(heads) is not MultiHead,
        "heads are normalised together (kind=rectified)": isinstance(attention.weighting, Rectified),
        "queries choose among heads (active_heads)": any(isinstance(gate, Mixture) for gate in attention.gates),
        "a head's slope depends on its number (positions=alibi)": isinstance(attention.scheme, ALiBi),
        "a head's frames depend on its number (reach=strided)": attention.strided is not None,
        "heads wait for each other (head_wait)": config.head_wait is not None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise UserError(f"{name}: none of its heads can be removed: {reason}")


def _part(key: str, value: Tensor, heads: Tensor, attention: Attention) -> Tensor:
    """What of a parameter of an attention is of some heads, or of all."""
    if key in OF_EACH_HEAD:
        return value[heads].clone()
    size = attention.heads.head_dim
    rows = (heads.unsqueeze(1) * size + torch.arange(size, device=heads.device)).flatten()
    if key.rpartition(".")[0] in PROJECTIONS:
        return value[rows].clone()
    return value[:, rows].clone() if key == OUTPUT else value


def _config(model: nn.Module, config: Mapping[str, Any], layers: Mapping[str, Attention], kept: Kept) -> dict[str, Any]:
    """`config` with the heads that are kept of each attention."""
    options = {}
    for name, attention in layers.items():
        options[name] = own = options_of(attention)
        if name in kept:
            own |= {"num_heads": len(kept[name]), "head_dim": attention.heads.head_dim}
            own.pop("kv_heads", None)  # as many as heads
            if (masked := min(own.pop("masked_heads", 0), len(kept[name]) - 1)) > 0:
                own["masked_heads"] = masked
    return with_options(model, config, options)
