"""The LSTM language model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.language_model import LanguageModel, check_no_attention
from s2s.models.memory import Memory
from s2s.nn.dropout import Dropout


@dataclass
class LSTMLanguageModelState:
    """The last outputs and cells of N rows, (N,L,D) each."""

    hidden: Tensor
    cells: Tensor


class LSTMLanguageModel(LanguageModel):
    """Layers of LSTMs over embedded tokens, with dropout between them (Sundermeyer et al. 2012; Zaremba et al. 2014,
    arXiv:1409.2329).
    """

    def __init__(
        self,
        vocab_size: int,
        model_dim: int = 512,
        num_layers: int = 2,
        dropout: float = 0.2,
        bos_id: int = 2,
        eos_id: int = 3,
        tie_output: bool = False,
    ) -> None:
        if num_layers < 1:
            raise UserError(f"num_layers={num_layers}: expected at least 1")
        super().__init__(vocab_size, model_dim, bos_id, eos_id, tie_output)
        self.layers = nn.LSTM(model_dim, model_dim, num_layers, batch_first=True)
        self.layers.dropout = dropout if num_layers > 1 else 0.0  # not to the constructor, which warns of one layer
        self.dropout = Dropout(dropout)

    def log_probs(self, tokens: Tensor) -> Tensor:
        return self._read(tokens, None)[0]

    def _read(self, tokens: Tensor, past: LSTMLanguageModelState | None) -> tuple[Tensor, LSTMLanguageModelState]:
        """tokens (N,U) -> log-probabilities (N,U,V) of each next token, and the past with them"""
        x = self.dropout(self.embedding(tokens))
        if torch.is_autocast_enabled(
            x.device.type
        ):  # on a CPU an LSTM then takes no float32, which embedded tokens are
            x = x.to(torch.get_autocast_dtype(x.device.type))
        before = None
        if past is not None:
            before = (past.hidden.transpose(0, 1).contiguous(), past.cells.transpose(0, 1).contiguous())
        x, (hidden, cells) = self.layers(x, before)
        state = LSTMLanguageModelState(hidden.transpose(0, 1), cells.transpose(0, 1))
        return self._output(self.dropout(x)), state

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> LSTMLanguageModelState:
        check_no_attention(need_attention)
        layers, width = self.layers.num_layers, self.layers.hidden_size
        zeros = self.embedding.weight.new_zeros(len(memory.lengths) * beam_size, layers, width)
        return LSTMLanguageModelState(zeros, zeros)

    def step(self, tokens: Tensor, state: LSTMLanguageModelState) -> tuple[Tensor, LSTMLanguageModelState]:
        log_probs, now = self._read(tokens.clamp(min=0).unsqueeze(1), state)
        grown = (tokens >= 0).view(-1, 1, 1)
        state.hidden = torch.where(grown, now.hidden, state.hidden)
        state.cells = torch.where(grown, now.cells, state.cells)
        return log_probs.squeeze(1), state

    def select(
        self, state: LSTMLanguageModelState, parents: Tensor, utterances: Tensor | None = None
    ) -> LSTMLanguageModelState:
        state.hidden, state.cells = state.hidden.index_select(0, parents), state.cells.index_select(0, parents)
        return state

    def join(self, state: LSTMLanguageModelState, other: LSTMLanguageModelState) -> LSTMLanguageModelState:
        state.hidden = torch.cat((state.hidden, other.hidden))
        state.cells = torch.cat((state.cells, other.cells))
        return state
