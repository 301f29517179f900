"""The LSTM decoder with attention: parallel over a batch for training, a token at a time for search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest
from s2s.models.memory import Memory
from s2s.nn.attention.additive import AdditiveAttention
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.scores import count_bias
from s2s.nn.dropout import Dropout
from s2s.nn.rows import RowBuffer, join_rows

ATTENTIONS = ("dot_product", "additive")
READOUTS = ("linear", "maxout")


class Past(NamedTuple):
    """All that N rows know of their tokens."""

    hidden: Tensor  # (N,L,D) of each layer
    cells: Tensor  # (N,L,D)
    context: Tensor  # (N,C) what attention found last
    attended: Tensor  # (N,H,T) the sum of its weights; of no head where they are not fed back


@dataclass
class LSTMDecoderState:
    """The past of N = B*K hypotheses, and what attention keeps of the memory, once per utterance."""

    past: Past
    memory: tuple[RowBuffer, ...]  # (B,H',T,d) each
    memory_counts: Tensor  # (B,1,1,T) as in Memory, bool where no frame stands for more than itself
    need_attention: bool = False
    attention: Tensor | None = None  # (B,K,T) of the last step, the mean of heads, where asked for


class LSTMDecoder(nn.Module):
    """Predicts the next token from the tokens so far and a memory by layers of LSTMs, of which the first attends.

    The first layer reads the embedded token and, where there is `input_feeding`, what attention found last; what its
    output finds in the memory, the context, goes to all layers above it with the output of the one below. From the
    third on these have a residual connection, where `residual` (GNMT: Wu et al. 2016, arXiv:1609.08144, sections 3.1
    and 3.2; there the context of the step before goes to all layers). The output sees the last layer alone (`readout`
    "linear", as in GNMT), or the last layer, the embedded token and the context through maxout of pairs ("maxout").

    One layer with attention "additive", `weight_feedback` and maxout is the decoder of Zeyer et al. 2018
    (arXiv:1805.03294, section 2). Attention "dot_product" is an `Attention` that `cross_attention` describes.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        model_dim: int = 256,
        num_layers: int = 1,
        num_heads: int = 1,
        dropout: float = 0.1,
        residual: bool = True,
        input_feeding: bool = True,
        readout: str = "maxout",
        attention: str = "dot_product",
        cross_attention: AttentionConfig | None = None,
        weight_feedback: bool = False,
    ) -> None:
        super().__init__()
        _check(num_layers, model_dim, readout, attention, cross_attention, weight_feedback)
        self.vocab_size, self.residual, self.input_feeding = vocab_size, residual, input_feeding
        self.embedding = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embedding.weight, std=model_dim**-0.5)
        self.memory_projection: nn.Module = nn.Identity()
        self.memory_attention: Attention | AdditiveAttention
        if attention == "additive":
            self.memory_attention = AdditiveAttention(model_dim, memory_dim, num_heads, dropout, weight_feedback)
            self.context_dim = memory_dim
        else:
            if memory_dim != model_dim:
                self.memory_projection = nn.Linear(memory_dim, model_dim)
            self.memory_attention = Attention(model_dim, num_heads, dropout, cross_attention, over_memory=True)
            self.context_dim = model_dim
        # One token after the other, where the next depends on what attention found, or its tensors (B,U,T,D) are large.
        self.stepwise = input_feeding or attention == "additive"
        self.feedback_heads = num_heads if weight_feedback else 0
        fed = [self.context_dim if input_feeding else 0] + [self.context_dim] * (num_layers - 1)
        self.layers: list[nn.LSTM] = nn.ModuleList(  # type: ignore[assignment]
            nn.LSTM(model_dim + size, model_dim, batch_first=True) for size in fed
        )
        self.readout: nn.Linear | None = None
        if readout == "maxout":
            self.readout = nn.Linear(2 * model_dim + self.context_dim, model_dim)
        self.out = nn.Linear(model_dim // 2 if readout == "maxout" else model_dim, vocab_size)
        self.dropout = Dropout(dropout)

    def _memory(self, memory: Memory) -> Cached:
        """What attention keeps of the memory, (B,H',T,d) each."""
        if memory.keys_values is not None:
            return memory.keys_values[0]
        return self.memory_attention.project(self.memory_projection(memory.states))

    def prepared(self, memory: Memory) -> Memory:
        """`memory` with what attention keeps of it, for several uses of it by this decoder."""
        return replace(memory, keys_values=(self._memory(memory),))

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on, N a multiple of B -> log-probabilities (N,U,V) of each next token"""
        return self._parallel(memory, tokens)[0]

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> where each looked (N,U,T): the mean weights of all heads."""
        weights = self._parallel(memory, tokens, need_attention=True)[1]
        assert weights is not None
        return weights

    def _parallel(self, memory: Memory, tokens: Tensor, need_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        state = self.start(memory, len(tokens) // len(memory.lengths), need_attention)
        log_probs, weights, _ = self._read(tokens, state)
        return log_probs, weights

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> LSTMDecoderState:
        """State of N = B * beam_size rows."""
        cached, counts = self._memory(memory), memory.frame_counts[:, None, None, :]
        rows = len(counts) * beam_size
        zeros = cached[0].new_zeros(rows, len(self.layers), self.embedding.embedding_dim)
        past = Past(
            zeros,
            zeros,
            zeros.new_zeros(rows, self.context_dim),
            zeros.new_zeros(rows, self.feedback_heads, counts.size(-1)),
        )
        return LSTMDecoderState(past, tuple(map(RowBuffer, cached)), counts, need_attention)

    def step(self, tokens: Tensor, state: LSTMDecoderState) -> tuple[Tensor, LSTMDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""
        log_probs, weights, past = self._read(tokens.clamp(min=0).unsqueeze(1), state)
        grown = tokens >= 0
        state.past = Past(
            *(
                torch.where(grown.view(-1, *[1] * (old.dim() - 1)), new, old)
                for new, old in zip(past, state.past, strict=True)
            )
        )
        state.attention = None if weights is None else weights.view(len(state.memory_counts), -1, weights.size(-1))
        return log_probs.squeeze(1), state

    def _read(self, tokens: Tensor, state: LSTMDecoderState) -> tuple[Tensor, Tensor | None, Past]:
        """tokens (N,U) -> log-probabilities (N,U,V), where each looked (N,U,T) if needed, and the past with them."""
        embedded = self.dropout(self.embedding(tokens))
        layers = list(zip(state.past.hidden.unbind(1), state.past.cells.unbind(1), strict=True))  # (N,D) each
        context, attended = state.past.context, state.past.attended
        outputs, contexts, weights = [], [], []
        for x in embedded.split(1 if self.stepwise else tokens.size(1), dim=1):
            fed = torch.cat((x, context.unsqueeze(1)), dim=-1) if self.input_feeding else x
            x, layers[0] = self._layer(0, fed, layers[0])
            found, looked, attended = self._attend(x, attended, state)
            context = found[:, -1]
            outputs.append(x)
            contexts.append(found)
            if looked is not None:
                weights.append(looked)
        x, found = torch.cat(outputs, dim=1), torch.cat(contexts, dim=1)
        for i in range(1, len(layers)):
            y, layers[i] = self._layer(i, torch.cat((self.dropout(x), found), dim=-1), layers[i])
            x = x + y if self.residual and i > 1 else y
        hidden, cells = (torch.stack(each, dim=1) for each in zip(*layers, strict=True))
        log_probs = self._logits(x, embedded, found).log_softmax(dim=-1)
        return log_probs, torch.cat(weights, dim=1) if weights else None, Past(hidden, cells, context, attended)

    def _layer(self, i: int, x: Tensor, last: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (N,U,D'), the last output and cell (N,D) of the layer -> its outputs (N,U,D), and the last ones now."""
        # In mixed precision an LSTM takes no float32 on a CPU, and embedded tokens are that.
        x = x.to(last[0].dtype)
        output, (hidden, cell) = self.layers[i](x, tuple(each.unsqueeze(0).contiguous() for each in last))
        return output, (hidden[0], cell[0])

    def _attend(self, x: Tensor, attended: Tensor, state: LSTMDecoderState) -> tuple[Tensor, Tensor | None, Tensor]:
        """x (N,U,D) -> contexts (N,U,C), where each looked (N,U,T) if needed, and `attended` with that."""
        # All rows of one utterance attend as the queries of one sequence, so its keys and values are read once.
        size = len(state.memory_counts)
        query, cached = x.reshape(size, -1, x.size(-1)), tuple(buffer.rows for buffer in state.memory)
        bias = count_bias(state.memory_counts, x)
        if isinstance(self.memory_attention, Attention):
            context, weights = self.memory_attention.over(query, cached, bias, state.need_attention)
        else:
            before = attended.unflatten(0, (size, -1)).transpose(1, 2)  # (B,H,K,T)
            context, weights = self.memory_attention.over(query, cached, bias, before)
            if self.feedback_heads:
                # What one frame has of the weight of those it stands for.
                each = weights / state.memory_counts.to(weights.dtype).clamp(min=1)
                attended = attended + each.transpose(1, 2).flatten(0, 1)
        looked = None
        if state.need_attention and weights is not None:
            looked = weights.mean(dim=1).view(*x.shape[:2], -1)
        return context.view(*x.shape[:2], -1), looked, attended

    def _logits(self, x: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
        """What the last layer gives (N,U,D), embedded tokens (N,U,D), contexts (N,U,C) -> (N,U,V) not normalised."""
        if self.readout is not None:
            x = self.readout(torch.cat((x, embedded, context), dim=-1)).unflatten(-1, (-1, 2)).amax(dim=-1)
        return self.out(self.dropout(x))

    def select(self, state: LSTMDecoderState, parents: Tensor, utterances: Tensor | None = None) -> LSTMDecoderState:
        """Make row n continue from row `parents[n]`, of the same utterance; `utterances` are those that stay."""
        state.past = Past(*(rows.index_select(0, parents) for rows in state.past))
        if utterances is not None:
            for buffer in state.memory:
                buffer.keep(utterances)
            state.memory_counts = state.memory_counts.index_select(0, utterances)
        return state

    def join(self, state: LSTMDecoderState, other: LSTMDecoderState) -> LSTMDecoderState:
        """The utterances of `other` behind those of `state`."""
        state.past = Past(*(join_rows(own, more) for own, more in zip(state.past, other.past, strict=True)))
        for buffer, more in zip(state.memory, other.memory, strict=True):
            buffer.join(more.rows)
        state.memory_counts = join_rows(state.memory_counts, other.memory_counts)
        return state


def _check(
    num_layers: int,
    model_dim: int,
    readout: str,
    attention: str,
    cross_attention: AttentionConfig | None,
    weight_feedback: bool,
) -> None:
    if num_layers < 1:
        raise UserError(f"num_layers={num_layers}: expected at least 1")
    for key, value, values in (("readout", readout, READOUTS), ("attention", attention, ATTENTIONS)):
        if value not in values:
            raise UserError(f"{key}={value}: expected {' or '.join(values)}.{nearest(value, values)}")
    if readout == "linear" and num_layers == 1:
        raise UserError(
            "readout=linear: sees the last layer only, and the first has not yet seen what its own output finds in the "
            "memory; expected readout=maxout, or num_layers of at least 2"
        )
    if readout == "maxout" and model_dim % 2:
        raise UserError(f"model_dim={model_dim}: readout=maxout makes pairs; choose an even one")
    if attention == "additive" and cross_attention is not None:
        raise UserError("cross_attention: has no effect with attention=additive; leave one of them out")
    if cross_attention is not None and cross_attention.kind == "monotonic":
        raise UserError("cross_attention.kind=monotonic: is for Transformer decoders; expected another one")
    if weight_feedback and attention != "additive":
        raise UserError(f"weight_feedback=true: is for attention=additive, not {attention}; leave it out")
