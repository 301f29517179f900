"""A decoder of texts that all begin alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder, TransformerDecoderState


class PromptedDecoder(nn.Module):
    """A decoder that has read the tokens of `prompt` before bos: they are neither given to it nor searched for.

    BART begins with </s> and must then say <s>: the prompt is </s>, and <s> is bos.
    """

    def __init__(self, decoder: TransformerDecoder, prompt: list[int]) -> None:
        super().__init__()
        self.decoder = decoder
        self.given = prompt
        self.vocab_size = decoder.vocab_size

    @property
    def max_positions(self) -> int | None:
        """How many tokens it can take, bos included; None: any number."""
        most = self.decoder.max_positions
        return None if most is None else most - len(self.given)

    def _prompts(self, size: int, like: Tensor) -> Tensor:
        return torch.tensor(self.given, dtype=torch.long, device=like.device).expand(size, -1)

    def _prompted(self, tokens: Tensor) -> Tensor:
        return torch.cat((self._prompts(len(tokens), tokens), tokens), dim=1)

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on, N a multiple of B -> log-probabilities (N,U,V) of each next token"""
        return self.decoder(memory, self._prompted(tokens))[:, len(self.given) :]

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> where each looked (N,U,T): the mean weights of all layers and heads."""
        return self.decoder.attention(memory, self._prompted(tokens))[:, len(self.given) :]

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> TransformerDecoderState:
        """State of N = B * beam_size rows, after the prompt."""
        state = self.decoder.start(memory, beam_size, need_attention)
        prompts = self._prompts(len(memory.lengths), memory.lengths)
        self.decoder.prompt(prompts, torch.full_like(memory.lengths, len(self.given)), state)
        return state

    def prompt(self, tokens: Tensor, lengths: Tensor, state: TransformerDecoderState) -> Tensor:
        """As `TransformerDecoder.prompt`, tokens (B,P) from bos on."""
        return self.decoder.prompt(tokens, lengths, state)

    def log_probs(self, x: Tensor) -> Tensor:
        """What `prompt` gives (...,D') -> log-probabilities (...,V) of each next token."""
        return self.decoder.log_probs(x)

    def step(self, tokens: Tensor, state: TransformerDecoderState) -> tuple[Tensor, TransformerDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""
        return self.decoder.step(tokens, state)

    def select(
        self, state: TransformerDecoderState, parents: Tensor, utterances: Tensor | None = None
    ) -> TransformerDecoderState:
        """As `TransformerDecoder.select`."""
        return self.decoder.select(state, parents, utterances)

    def join(self, state: TransformerDecoderState, other: TransformerDecoderState) -> TransformerDecoderState:
        """The utterances of `other` behind those of `state`."""
        return self.decoder.join(state, other)
