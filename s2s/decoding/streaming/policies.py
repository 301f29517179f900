"""The simultaneous policies by name, and a simultaneous search made of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from s2s.decoding.engine import LabelSearch
from s2s.decoding.streaming.align_att import AlignAtt
from s2s.decoding.streaming.attention import AlignmentHeads, Attend, HeadMean, LastStop
from s2s.decoding.streaming.edatt import EDAtt
from s2s.decoding.streaming.hold_n import HoldN
from s2s.decoding.streaming.local_agreement import LocalAgreement
from s2s.decoding.streaming.monotonic import Monotonic
from s2s.decoding.streaming.policy import Policy
from s2s.decoding.streaming.simul_whisper import SimulWhisper
from s2s.decoding.streaming.simultaneous import SimultaneousSearch
from s2s.decoding.streaming.wait_k import WaitK
from s2s.decoding.streaming.words import word_starts
from s2s.errors import UserError, nearest
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.hybrid import HybridModel
from s2s.models.whisper import Whisper
from s2s.tokenizers.base import Tokenizer

POLICIES: dict[str, Any] = {
    "wait_k": WaitK,
    "local_agreement": LocalAgreement,
    "hold_n": HoldN,
    "edatt": EDAtt,
    "align_att": AlignAtt,
    "simul_whisper": SimulWhisper,
    "monotonic": Monotonic,
}
_KINDS = {int: "a whole number", float: "a number", str: "text", type(None): "null"}


def build_policy(name: str, options: Mapping[str, object] | None = None) -> Policy[Any]:
    """The policy of a name in `POLICIES`, with options that are not at their default.

    Raises UserError for an unknown name or option, and a value of the wrong type or out of range.
    """
    if name not in POLICIES:
        raise UserError(f"policy.name={name}: expected one of {', '.join(POLICIES)}.{nearest(name, POLICIES)}")
    kind, options = POLICIES[name], dict(options or {})
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for key, value in options.items():
        if key not in known:
            raise UserError(f"policy.{key}: {name} has {' and '.join(known)} only.{nearest(key, known)}")
        allowed = get_args(types[key]) or (types[key],)
        if type(value) not in (*allowed, *((int,) if float in allowed else ())):
            raise UserError(f"policy.{key}={value}: expected {' or '.join(_KINDS[each] for each in allowed)}")
    policy: Policy[Any] = kind(**options)
    return policy


def build_simultaneous(
    search: LabelSearch,
    policy: Policy[Any],
    model: HybridModel | EncoderDecoder,
    tokenizer: Tokenizer,
    heads: Sequence[Sequence[int]] | None = None,
    spaces: bool = True,
) -> SimultaneousSearch:
    """Simultaneous search of a model and its tokenizer by a policy.

    `search` is an offline one of the model (`s2s.decoding.build.build_search`). `heads` of the decoder, each
    [layer, head], say where it looks; by default those of Whisper that follow the audio, or the mean of all; a
    monotonic policy asks where all heads stop. `spaces`: the language has them between words. Raises UserError for
    heads that the decoder has not.
    """
    attend: Attend
    if isinstance(policy, Monotonic):
        attend = LastStop(model.decoder)
    elif isinstance(model, Whisper) and heads is None and not isinstance(policy, EDAtt):
        attend = AlignmentHeads(model)
    else:
        own = model.alignment_heads if isinstance(model, Whisper) and heads is None else heads
        attend = HeadMean(model.decoder, own)
    return SimultaneousSearch(search, policy, attend, word_starts(tokenizer, spaces))
