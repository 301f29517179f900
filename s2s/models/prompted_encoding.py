"""Encoding for decoders that are told what to write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.memory import Encoder, Memory
from s2s.models.prompts import Prompts
from s2s.models.streaming_encoder import StreamingEncoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.language_feed_forward import LanguageFeedForward
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.joint import prompt_tokens


def encode_asked(encoder: Encoder, source: Tensor, lengths: Tensor, asked: Prompts | None, **options: Any) -> Memory:
    """What an encoder makes of source (B,S,F) or (B,S), lengths (B,), in a memory that says what was asked for it.

    Its layers of languages are told too; `options` are further ones of its own.
    """
    if asked is None:
        return encoder(source, lengths, **options)
    if isinstance(encoder, StreamingEncoder):
        options["languages"] = asked.languages
    return replace(encoder(source, lengths, **options), asked=asked)


def check_prompts(model: nn.Module, tokenizer: Tokenizer) -> None:
    """Raise UserError where a model's decoder takes no prompts and the tokenizer has them, or the other way round."""
    tokens = prompt_tokens(tokenizer)
    decoder = getattr(model, "decoder", None)
    if tokens is not None and not isinstance(decoder, TransformerDecoder):
        raise UserError(
            f"model.decoder: a {type(decoder).__name__}, which takes no prompts, and the tokenizer has some "
            f"({', '.join(tokens.pieces)}); expected {TransformerDecoder.__module__}.TransformerDecoder"
        )
    for part in model.modules():
        if isinstance(part, LanguageFeedForward) and len(part.of_language) != len(tokens.languages if tokens else ()):
            has = f"{len(tokens.languages)} languages ({', '.join(tokens.languages)})" if tokens else "no languages"
            raise UserError(
                f"language_layers.num_languages={len(part.of_language)}: the tokenizer has {has}; train it with "
                "`s2s tokenizer train --language`, once for each"
            )
