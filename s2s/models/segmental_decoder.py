"""The decoder of a segmental model: what is said in a segment, and where segments end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig, Attentions, of_layer
from s2s.nn.attention.multi_head import Cached
from s2s.nn.dropout import Dropout
from s2s.nn.feed_forward import FeedForward
from s2s.nn.lengths import valid_mask
from s2s.nn.segments import Segments

LABELS_AT_FIRST = -2.0  # the log-odds that a frame ends a segment, before anything is learned


class LabelPast(NamedTuple):
    """What the label network keeps of the labels of N hypotheses."""

    hidden: Tensor  # (N,L,D) of each layer
    cells: Tensor  # (N,L,D)


class SegmentLayer(nn.Module):
    """Attention to the frames of a segment, then feed-forward, each after a layer norm and with a residual."""

    def __init__(
        self, model_dim: int, num_heads: int, feed_forward_dim: int, dropout: float, config: AttentionConfig
    ) -> None:
        super().__init__()
        self.norm_memory = nn.LayerNorm(model_dim)
        self.memory_attention = Attention(model_dim, num_heads, dropout, config, over_memory=True)
        self.norm_feed_forward = nn.LayerNorm(model_dim)
        self.feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, nn.ReLU())
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, cached: Cached, shown: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """x (B,U,D), what is kept of the frames, those `shown` (B,1,U,T) -> (B,U,D), and weights (B,H,U,T) if needed"""
        found, weights = self.memory_attention.over(self.norm_memory(x), cached, shown, need_weights)
        x = x + self.dropout(found)
        return x + self.feed_forward(self.norm_feed_forward(x)), weights


class LengthModel(nn.Module):
    """How probable it is that a segment ends at a frame, given the frame and the labels before the segment.

    sigmoid(v · relu(W_h h_t + W_g g_s)): a switch between blank and label at every frame (Zeyer et al. 2022).
    """

    def __init__(self, model_dim: int) -> None:
        super().__init__()
        self.frame = nn.Linear(model_dim, model_dim)
        self.labels = nn.Linear(model_dim, model_dim, bias=False)
        self.out = nn.Linear(model_dim, 1)
        nn.init.constant_(self.out.bias, LABELS_AT_FIRST)

    def forward(self, frames: Tensor, labels: Tensor) -> Tensor:
        """What `frame` makes of frames (...,D), and `labels` of label states (...,D), -> log-odds of an end (...)."""
        return self.out((frames + labels).relu()).squeeze(-1)


class SegmentalDecoder(nn.Module):
    """P(label | labels before, frames of the segment) and P(the segment ends here | labels before, frame).

    The decoder of Zeyer et al. 2022, "Monotonic segmental attention for automatic speech recognition"
    (arXiv:2210.14742). Labels a_1..a_S of segments that end before frames t_1 < ... < t_S have the probability

        P(a, t) = prod_s P(a_s | a_<s, frames of (t_{s-1}, t_s]) prod_t (e_t if a segment ends at t, else 1 - e_t)

    where e_t is what the length model says of frame t and the labels before it; the frames after the last label are
    blank, and there is no eos. A label network of LSTMs reads the labels and never the frames: so what a segment scores
    depends only on the labels before it and on where it starts and ends, and searches over segmentations are exact.
    From its state g_s, `num_layers` of attention to the frames that `segments` shows make the label.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        model_dim: int = 256,
        num_layers: int = 2,
        num_heads: int = 4,
        feed_forward_dim: int = 1024,
        dropout: float = 0.1,
        label_layers: int = 1,
        segments: Segments | None = None,
        cross_attention: Attentions = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_layers", num_layers), ("label_layers", label_layers)):
            if value < 1:
                raise UserError(f"{name}={value}: expected at least 1")
        self.vocab_size, self.model_dim = vocab_size, model_dim
        self.segments = segments or Segments()
        self.embedding = nn.Embedding(vocab_size, model_dim)
        self.label_network = nn.LSTM(model_dim, model_dim, label_layers, batch_first=True)
        self.memory_projection = nn.Linear(memory_dim, model_dim) if memory_dim != model_dim else nn.Identity()
        self.length = LengthModel(model_dim)
        self.layers: list[SegmentLayer] = nn.ModuleList(  # type: ignore[assignment]
            SegmentLayer(model_dim, num_heads, feed_forward_dim, dropout, of_layer(cross_attention, i))
            for i in range(num_layers)
        )
        for config in (layer.memory_attention.config for layer in self.layers):
            if config.reach == "strided":
                raise UserError("cross_attention.reach=strided: would see no frame of a short segment; leave it out")
            if config.kind == "monotonic":
                raise UserError("cross_attention.kind=monotonic: it is the segments that move on; choose another kind")
        self.norm = nn.LayerNorm(model_dim)
        self.out = nn.Linear(model_dim, vocab_size)
        self.dropout = Dropout(dropout)

    def no_labels(self, size: int) -> LabelPast:
        """What is kept of N = `size` hypotheses before bos."""
        network = self.label_network
        zeros = self.embedding.weight.new_zeros(size, network.num_layers, network.hidden_size)
        return LabelPast(zeros, zeros)

    def read(self, tokens: Tensor, past: LabelPast) -> tuple[Tensor, LabelPast]:
        """tokens (N,U), bos the very first -> label states (N,U,D), of which each knows its own token, and the past."""
        # In mixed precision an LSTM takes no float32 on a CPU, and embedded tokens are that.
        x = self.dropout(self.embedding(tokens)).to(past.hidden.dtype)
        states, kept = self.label_network(x, tuple(each.transpose(0, 1).contiguous() for each in past))
        return self.dropout(states), LabelPast(*(each.transpose(0, 1) for each in kept))

    def frames(self, states: Tensor, length_gradient: bool = True) -> tuple[Tensor, tuple[Cached, ...]]:
        """Frames of a memory (B,T,D') -> what the length model makes of them (B,T,D), and what each layer keeps.

        Without `length_gradient` none goes from the length model into the frames.
        """
        x = self.memory_projection(states)
        kept = tuple(layer.memory_attention.project(x) for layer in self.layers)
        return self.length.frame(x if length_gradient else x.detach()), kept

    def predict(
        self, labels: Tensor, kept: tuple[Cached, ...], shown: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Label states (B,U,D), what layers keep of frames, those `shown` (B,U,T) -> log-probabilities (B,U,V).

        And, on request, the weights (B,U,T), the mean of layers and heads.
        """
        x, weights = labels, []
        for layer, cached in zip(self.layers, kept, strict=True):
            x, looked = layer(x, cached, shown.unsqueeze(1), need_weights)
            if looked is not None:
                weights.append(looked.mean(dim=1))
        log_probs = self.out(self.norm(x)).log_softmax(dim=-1)
        return log_probs, torch.stack(weights).mean(dim=0) if weights else None

    def forward(
        self, memory: Memory, tokens: Tensor, ends: Tensor, length_gradient: bool = True
    ) -> tuple[Tensor, Tensor]:
        """tokens (N,1+U) from bos on, N a multiple of B; `ends` (N,U), the frame after the segment of each but bos.

        Returns log-probabilities (N,U,V) of the label of each segment, and the log-odds (N,T) that one ends at each
        frame. Segments have one frame at least; those of padding end after frame T. `length_gradient` is as for
        `frames`.
        """
        states, _ = self.read(tokens, self.no_labels(len(tokens)))
        frames, kept = self.frames(memory.states, length_gradient)
        log_probs, _ = self._predict(memory, states[:, :-1], kept, ends)
        # The labels before a frame are those of the segments that have ended.
        number = (ends.unsqueeze(1) <= torch.arange(frames.size(1), device=ends.device).unsqueeze(1)).sum(
            dim=2
        )  # (N,T)
        own = self.length.labels(states).gather(1, number.unsqueeze(2).expand(-1, -1, self.model_dim))
        return log_probs, self.length(frames.repeat_interleave(len(tokens) // len(frames), dim=0), own)

    def attention(self, memory: Memory, tokens: Tensor, ends: Tensor) -> Tensor:
        """tokens and ends as in `forward` -> where each label looked (N,U,T): the mean weights of layers and heads."""
        states, _ = self.read(tokens, self.no_labels(len(tokens)))
        _, kept = self.frames(memory.states)
        weights = self._predict(memory, states[:, :-1], kept, ends, need_weights=True)[1]
        assert weights is not None
        return weights

    def _predict(
        self, memory: Memory, states: Tensor, kept: tuple[Cached, ...], ends: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """`predict` of states (N,U,D) for segments that follow one another -> (N,U,V) and (N,U,T)."""
        size, num_frames = len(memory.lengths), memory.states.size(1)
        starts = torch.cat((ends.new_zeros(len(ends), 1), ends[:, :-1]), dim=1)
        frames = torch.arange(num_frames, device=ends.device)
        shown = self.segments.shown(starts, ends, frames).unflatten(0, (size, -1))  # (B,N/B,U,T)
        shown = (shown & valid_mask(memory.lengths, num_frames)[:, None, None]).flatten(1, 2)
        shown = shown | ~shown.any(dim=-1, keepdim=True)  # where padding sees nothing, weights would not be numbers
        # All rows of one utterance attend as the queries of one sequence, so its keys and values are read once.
        log_probs, weights = self.predict(states.reshape(*shown.shape[:2], self.model_dim), kept, shown, need_weights)
        shape = states.shape[:2]
        return log_probs.view(*shape, self.vocab_size), None if weights is None else weights.view(*shape, num_frames)
