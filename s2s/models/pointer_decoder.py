"""The decoder whose tokens are the frames of the memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask
from s2s.nn.pointer import Pointer
from s2s.nn.rows import join_rows


@dataclass
class PointerDecoderState:
    """The past of N = B*K hypotheses, and what is pointed at, once per utterance."""

    hidden: Tensor  # (N,D)
    cell: Tensor  # (N,D)
    frames: Tensor  # (B,T+2,M) the vectors that stand for bos and eos, and the frames
    keys: Tensor  # (B,T+1,D) of eos and the frames
    shown: Tensor  # (B,T+1) bool
    need_attention: bool = False
    attention: Tensor | None = None  # (B,K,T) of the last step, where asked for


class PointerDecoder(nn.Module):
    """Answers with frames of the memory, in any order: an LSTM and a `Pointer` (Vinyals et al. 2015, section 2.3).

    Token `first_id` + t points at frame t, eos at a learned vector; the other tokens below `first_id` are never
    predicted. The LSTM begins with the mean of the frames and reads the frame that was pointed at last. So there are as
    many classes as frames, at most `vocab_size` - `first_id`. `no_repeat_ngram: 1` in a search makes permutations. A
    loss must not smooth labels: what is not there has a log-probability of -inf.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        model_dim: int = 256,
        bos_id: int = 2,
        eos_id: int = 3,
        first_id: int = 4,
    ) -> None:
        super().__init__()
        if not 0 <= max(bos_id, eos_id) < first_id < vocab_size:
            raise UserError(
                f"first_id={first_id}: expected more than bos_id={bos_id} and eos_id={eos_id}, and less than "
                f"vocab_size={vocab_size}"
            )
        self.vocab_size, self.bos_id, self.eos_id, self.first_id = vocab_size, bos_id, eos_id, first_id
        self.marks = nn.Parameter(torch.randn(2, memory_dim) * memory_dim**-0.5)  # bos and eos
        self.begin = nn.Linear(memory_dim, model_dim)
        self.lstm = nn.LSTM(memory_dim, model_dim, batch_first=True)
        self.pointer = Pointer(model_dim, memory_dim)

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on, N a multiple of B -> log-probabilities (N,U,V) of each next token"""
        return self._spread(self._parallel(memory, tokens))

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> the probability of each frame to come next (N,U,T)"""
        return self._parallel(memory, tokens)[..., 1:].exp()

    def _parallel(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self._read(tokens, self.start(memory, len(tokens) // len(memory.lengths)))[0]

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> PointerDecoderState:
        """State of N = B * beam_size rows. Raises UserError for a memory of more frames than there are tokens."""
        size, num_frames = memory.states.shape[:2]
        if num_frames > self.vocab_size - self.first_id:
            raise UserError(
                f"vocab_size={self.vocab_size}: has tokens for {self.vocab_size - self.first_id} frames, there are "
                f"{num_frames}; expected at least {num_frames + self.first_id}"
            )
        shown = valid_mask(memory.lengths, num_frames)
        states = memory.states.masked_fill(~shown.unsqueeze(-1), 0.0)
        frames = torch.cat((self.marks.expand(size, -1, -1).to(states.dtype), states), dim=1)
        mean = states.sum(dim=1) / memory.lengths.unsqueeze(1)
        hidden = self.begin(mean).tanh().repeat_interleave(beam_size, dim=0)
        keys, shown = self.pointer.project(frames[:, 1:]), F.pad(shown, (1, 0), value=True)
        return PointerDecoderState(hidden, torch.zeros_like(hidden), frames, keys, shown, need_attention)

    def step(self, tokens: Tensor, state: PointerDecoderState) -> tuple[Tensor, PointerDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""
        log_probs, hidden, cell = self._read(tokens.unsqueeze(1), state)
        grown = (tokens >= 0).unsqueeze(1)
        state.hidden, state.cell = torch.where(grown, hidden, state.hidden), torch.where(grown, cell, state.cell)
        if state.need_attention:
            state.attention = log_probs[..., 1:].exp().view(len(state.frames), -1, log_probs.size(-1) - 1)
        return self._spread(log_probs).squeeze(1), state

    def _read(self, tokens: Tensor, state: PointerDecoderState) -> tuple[Tensor, Tensor, Tensor]:
        """tokens (N,U) -> log-probabilities (N,U,T+1) of eos and the frames, and the LSTM's state with them (N,D)."""
        size, shape = len(state.frames), tokens.shape
        places = torch.where(tokens < self.first_id, (tokens == self.eos_id).long(), tokens - self.first_id + 2)
        there = places < state.frames.size(1)  # a search may go on from what it has given up
        places = places.masked_fill(~there, 0).view(size, -1, 1).expand(-1, -1, state.frames.size(2))
        given = state.frames.gather(1, places).view(*shape, -1).masked_fill(~there.unsqueeze(-1), 0.0)  # (N,U,M)
        x, (hidden, cell) = self.lstm(given, (state.hidden.unsqueeze(0), state.cell.unsqueeze(0)))
        log_probs = self.pointer(x.reshape(size, -1, x.size(-1)), state.keys, state.shown)
        return log_probs.view(*shape, -1), hidden[0], cell[0]

    def _spread(self, log_probs: Tensor) -> Tensor:
        """Of eos and the frames (N,U,T+1) -> of all tokens (N,U,V)"""
        every = log_probs.new_full((*log_probs.shape[:2], self.vocab_size), float("-inf"))
        every[..., self.eos_id] = log_probs[..., 0]
        every[..., self.first_id : self.first_id + log_probs.size(-1) - 1] = log_probs[..., 1:]
        return every

    def select(
        self, state: PointerDecoderState, parents: Tensor, utterances: Tensor | None = None
    ) -> PointerDecoderState:
        """Make row n continue from row `parents[n]`, of the same utterance; `utterances` are those that stay."""
        state.hidden, state.cell = (rows.index_select(0, parents) for rows in (state.hidden, state.cell))
        if utterances is not None:
            state.frames, state.keys, state.shown = (
                rows.index_select(0, utterances) for rows in (state.frames, state.keys, state.shown)
            )
        return state

    def join(self, state: PointerDecoderState, other: PointerDecoderState) -> PointerDecoderState:
        """The utterances of `other` behind those of `state`."""
        for name in ("hidden", "cell", "frames", "keys", "shown"):
            setattr(state, name, join_rows(getattr(state, name), getattr(other, name)))
        return state
