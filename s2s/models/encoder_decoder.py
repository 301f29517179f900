"""The attention encoder-decoder without anything else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.decoder_loss import decoder_loss
from s2s.models.distillation import Lesson
from s2s.models.language_model import cross_entropy, teacher_forced
from s2s.models.memory import AttentionDecoder, Encoder, Memory
from s2s.models.pointer_decoder import PointerDecoder
from s2s.models.prompted_encoding import encode_asked
from s2s.models.prompts import Prompts


class EncoderDecoder(nn.Module):
    """An encoder and a decoder that attends to what it gives: speech or text in, text out (Vaswani et al. 2017).

    Where `share_embedding`, source and target tokens are the same and have the same vectors. `consistency` is the α of
    R-drop (Liang et al. 2021, arXiv:2106.14448, eq. 4): every sentence is seen twice, with other units dropped, and the
    two answers should agree.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder: nn.Module,
        decoder: nn.Module,
        bos_id: int = 2,
        eos_id: int = 3,
        label_smoothing: float = 0.1,
        share_embedding: bool = False,
        consistency: float = 0.0,
    ) -> None:
        super().__init__()
        if consistency < 0.0:
            raise UserError(f"consistency={consistency}: expected 0 or more, such as 5")
        for other in ("classifiers", "alignment_loss"):
            if consistency and getattr(decoder, other, None) is not None:
                raise UserError(f"consistency={consistency}: is for a decoder without {other}; leave one of them out")
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        if label_smoothing and isinstance(decoder, PointerDecoder):
            raise UserError(f"label_smoothing={label_smoothing}: a pointer's labels are frames; expected 0")
        read, attended = (getattr(part, "num_sources", 1) for part in (encoder, decoder))
        if read != attended:
            raise UserError(
                f"decoder.sources.num_sources: the encoder reads {read} sources, the decoder attends to {attended}; "
                "expected as many"
            )
        self.vocab_size = vocab_size
        self.encoder: Encoder = encoder  # type: ignore[assignment]
        self.decoder: AttentionDecoder = decoder  # type: ignore[assignment]
        self.bos_id, self.eos_id = bos_id, eos_id
        self.label_smoothing, self.consistency = label_smoothing, consistency
        if share_embedding:
            share(encoder, decoder)

    def encode(self, source: Tensor, lengths: Tensor, asked: Prompts | None = None) -> Memory:
        """Features (B,S,F) or tokens (B,S), lengths (B,) -> Memory, which says what was `asked` for it"""
        return encode_asked(self.encoder, source, lengths, asked)

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        asked: Prompts | None = None,
        given: Tensor | None = None,
        lesson: Lesson | None = None,
    ) -> Tensor:
        """Cross-entropy of targets (B,U) without bos and eos, lengths (B,), in nats per token, eos counted.

        What is `given` (B,U) to the decoder as the tokens so far may differ from the targets. A `lesson` is what a
        teacher says of them; with `consistency` there is none.
        """
        twice = self.training and self.consistency > 0.0
        if twice:
            source, lengths, target, target_lengths = (
                torch.cat((x, x)) for x in (source, lengths, target, target_lengths)
            )
            asked = Prompts.joined((asked, asked)) if asked else None
            given = None if given is None else torch.cat((given, given))
        tokens, labels, counted = teacher_forced(target, target_lengths, self.bos_id, self.eos_id)
        if given is not None:
            tokens = torch.cat((tokens[:, :1], given), dim=1)
        memory = self.encode(source, lengths, asked)
        if twice:
            log_probs = self.decoder(memory, tokens)
            first, second = log_probs.chunk(2)
            disagreement = symmetric_divergence(first, second, counted.chunk(2)[0])
            return cross_entropy(log_probs, labels, counted, self.label_smoothing) + self.consistency / 2 * disagreement
        return decoder_loss(self.decoder, memory, tokens, labels, counted, self.label_smoothing, lesson)[0]


def symmetric_divergence(a: Tensor, b: Tensor, counted: Tensor) -> Tensor:
    """(KL(P_a || P_b) + KL(P_b || P_a)) / 2 of log-probabilities (B,U,V), the mean over tokens that count (B,U)."""
    a, b = a.float(), b.float()
    both = ((a.exp() - b.exp()) * (a - b)).sum(dim=-1)  # of both directions: the terms of one token have one sign
    return both.masked_fill(~counted, 0.0).sum() / (2 * counted.sum())


def share(encoder: nn.Module, decoder: nn.Module) -> None:
    """Give a decoder the embedding of an encoder's front; UserError where they are not of the same tokens and width."""
    own, theirs = getattr(decoder, "embedding", None), getattr(getattr(encoder, "front", None), "embedding", None)
    if not (isinstance(own, nn.Embedding) and isinstance(theirs, nn.Embedding)):
        raise UserError("share_embedding=true: expected an encoder and a decoder of text, with an embedding each")
    if own.weight.shape != theirs.weight.shape:
        raise UserError(
            f"share_embedding=true: the source has {tuple(theirs.weight.shape)} embeddings, the target "
            f"{tuple(own.weight.shape)}; expected one vocabulary and one width"
        )
    decoder.embedding = theirs
