"""Where the decoder looked for each token of a text, as policies and word times want it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from s2s.decoding.time_warping import median_filter
from s2s.decoding.word_timing import over_frames, standardised
from s2s.errors import UserError
from s2s.models.memory import AttentionDecoder, Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.whisper import Whisper


class Attend(Protocol):
    """Anything that says where a decoder looked."""

    def __call__(self, memory: Memory, tokens: Tensor, lengths: Tensor, heard: Tensor) -> Tensor:
        """Tokens (B,U) from bos or the prompt on, lengths (B,) -> how much each frame counts (B,U,T) for the next one.

        Only the first `heard` (B,) frames of each utterance count; what a memory holds beyond (silence that was added,
        the end of a sentence) does not.
        """
        ...


class HeadMean:
    """The mean weights of all layers and heads, or of some `heads`, each [layer, head]; they sum to 1 over the frames.

    Raises UserError for a head that the decoder has not, and for a decoder that knows only the mean of all.
    """

    def __init__(self, decoder: AttentionDecoder, heads: Sequence[Sequence[int]] | None = None) -> None:
        self.decoder = decoder
        self.heads = None if heads is None else checked_heads(decoder, heads)

    def __call__(self, memory: Memory, tokens: Tensor, lengths: Tensor, heard: Tensor) -> Tensor:
        if self.heads is None:
            weights = self.decoder.attention(memory, tokens)
        else:
            weights = self.decoder.read(memory, tokens, self.heads)[1].mean(dim=1)  # type: ignore[attr-defined]
        return over_frames(weights, heard)


class AlignmentHeads:
    """Where Whisper heard each token, as `s2s.decoding.word_timing` finds it before it warps time; no weights that sum.

    The weights of the heads that follow the audio are standardised over the tokens, which leaves out the frames that
    all of them look at, and filtered by a running median, as in openai/whisper's `timing.py` and in Simul-Whisper
    (Wang et al. 2024, arXiv:2406.10052).
    """

    def __init__(self, model: Whisper) -> None:
        self.model = model

    def __call__(self, memory: Memory, tokens: Tensor, lengths: Tensor, heard: Tensor) -> Tensor:
        weights = self.model.decoder.read(memory, tokens, self.model.alignment_heads)[1]
        weights = standardised(over_frames(weights.float(), heard), lengths)
        return median_filter(weights, heard).mean(dim=1)


class LastStop:
    """One at the frame where the last of all heads stopped (cross_attention.kind=monotonic), else zero.

    Where some head read a memory to its end, that is the last frame of what was heard. Raises UserError for a decoder
    whose heads do not stop.
    """

    def __init__(self, decoder: AttentionDecoder) -> None:
        if not (isinstance(decoder, TransformerDecoder) and decoder.stopping_heads):
            raise UserError(
                "policy.name=monotonic: no head of this decoder stops; it is for a Transformer decoder with "
                "cross_attention.kind=monotonic"
            )
        self.decoder = decoder

    def __call__(self, memory: Memory, tokens: Tensor, lengths: Tensor, heard: Tensor) -> Tensor:
        last = self.decoder.stops(memory, tokens).amax(dim=1)  # (B,U)
        to_the_end = last >= memory.lengths.unsqueeze(1) - 1
        last = torch.where(to_the_end, heard.unsqueeze(1) - 1, last.minimum(heard.unsqueeze(1) - 1))
        frames = torch.arange(max(memory.states.size(1), int(heard.max())), device=last.device)
        return (frames == last.unsqueeze(-1)).to(memory.states.dtype)


def checked_heads(decoder: AttentionDecoder, heads: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """`heads` as pairs; UserError for one that the decoder has not."""
    if not hasattr(decoder, "read"):
        raise UserError(f"policy.heads: {type(decoder).__name__} knows only the mean of all heads; leave it out")
    counts = [layer.memory_attention.num_heads for layer in decoder.layers]  # type: ignore[attr-defined]
    if not heads:
        raise UserError("policy.heads: no heads; name at least one, such as [[0, 0]], or leave it out")
    for head in heads:
        if len(head) != 2 or not 0 <= head[0] < len(counts) or not 0 <= head[1] < counts[head[0]]:
            raise UserError(
                f"policy.heads: {list(head)} is no [layer, head] of this decoder: expected layers 0 to "
                f"{len(counts) - 1}, heads 0 to {max(counts) - 1}"
            )
    return [(layer, number) for layer, number in heads]
