"""The Transformer decoder: parallel for training, a token at a time for search."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.alignment_loss import AlignmentLoss, AlignmentLossConfig
from s2s.models.auxiliary_classifiers import AuxiliaryClassifiers, ClassifiersConfig
from s2s.models.memory import Memory
from s2s.models.transformer_state import Reading, TransformerDecoderState
from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.config import Attentions, of_decoder_layer, of_layer
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.multi_source import SourcesConfig
from s2s.nn.attention.scores import count_bias
from s2s.nn.attention.stop import Stops
from s2s.nn.dropout import Dropout
from s2s.nn.language_feed_forward import LanguageLayersConfig, of_languages
from s2s.nn.layer_drop import LayerDrop
from s2s.nn.layer_fusion import GroupFusion, SurfaceFusion, SurfaceFusionConfig
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions
from s2s.nn.transformer import Past, TransformerLayer, activation_module, before, from_cache


class TransformerDecoder(nn.Module):
    """Predicts the next token from the tokens so far and a memory (Vaswani et al. 2017, section 3.1).

    The defaults are the pre-norm Transformer with sinusoidal positions. Other people's models have learned positions,
    `max_positions` of them, norms after the residuals (not `pre_norm`), a norm of the embedded tokens, no last
    norm, or the embedding as output matrix too (`tie_output`). The output may also see the last layers of groups of
    `group_size` (`GroupFusion`) and the source (`SurfaceFusion`); other layers may have `AuxiliaryClassifiers`, or with
    `language_layers` a feed-forward for each language. What a memory says was `asked` is read before bos. With
    `sources` it attends to several (`MultiSource`). A training leaves layers out as `LayerDrop` says.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        model_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        feed_forward_dim: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        pre_norm: bool = True,
        final_norm: bool = True,
        positions: str = "sinusoidal",
        max_positions: int = 0,
        scale_embedding: bool = True,
        norm_embedding: bool = False,
        tie_output: bool = False,
        out_bias: bool = True,
        self_attention: Attentions = None,
        cross_attention: Attentions = None,
        group_size: int | None = None,
        surface_fusion: SurfaceFusionConfig | None = None,
        classifiers: ClassifiersConfig | None = None,
        alignment_loss: AlignmentLossConfig | None = None,
        language_layers: LanguageLayersConfig | None = None,
        sources: SourcesConfig | None = None,
        layer_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_sources = 1 if sources is None else sources.num_sources
        if sources is not None and (surface_fusion or alignment_loss):
            other = "surface_fusion" if surface_fusion else "alignment_loss"
            raise UserError(f"{other}: is for a decoder of one source; leave it out, or leave out `sources`")
        if layer_drop and alignment_loss is not None:
            raise UserError(f"layer_drop={layer_drop}: alignment_loss needs all layers; leave one of them out")
        self.vocab_size, self.model_dim = vocab_size, model_dim
        self.embedding = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embedding.weight, std=model_dim**-0.5)
        self.scale = math.sqrt(model_dim) if scale_embedding else 1.0
        self.positions = Positions(positions, model_dim, max_positions)
        self.norm_embedding = nn.LayerNorm(model_dim) if norm_embedding else nn.Identity()
        self.memory_projection = nn.Linear(memory_dim, model_dim) if memory_dim != model_dim else nn.Identity()
        chosen = of_languages(
            language_layers, num_layers, model_dim, feed_forward_dim, dropout, activation_module(activation)
        )
        self.layers: list[TransformerLayer] = nn.ModuleList(  # type: ignore[assignment]
            TransformerLayer(
                model_dim,
                num_heads,
                feed_forward_dim,
                dropout,
                activation=activation,
                pre_norm=pre_norm,
                positions=positions,
                self_attention=of_decoder_layer(self_attention, i),
                cross_attention=of_layer(cross_attention, i),
                instead=chosen[i],
                sources=sources,
            )
            for i in range(num_layers)
        )
        self.layer_drop = LayerDrop(num_layers, layer_drop)
        self.norm = nn.LayerNorm(model_dim) if final_norm else nn.Identity()
        if tie_output:
            self.out_bias = nn.Parameter(torch.zeros(vocab_size)) if out_bias else None
        self.out: nn.Module | None = None if tie_output else nn.Linear(model_dim, vocab_size, bias=out_bias)
        self.dropout = Dropout(dropout)
        self.groups = None if group_size is None else GroupFusion(num_layers, group_size)
        self.surface: SurfaceFusion | None = None
        if surface_fusion is not None:
            self.surface = SurfaceFusion(surface_fusion, model_dim, num_heads, dropout)
        self.classifiers: AuxiliaryClassifiers | None = None
        if classifiers is not None:
            self.classifiers = AuxiliaryClassifiers(classifiers, num_layers, model_dim, vocab_size)
        self.alignment_loss: AlignmentLoss | None = None
        if alignment_loss is not None:
            self.alignment_loss = AlignmentLoss(alignment_loss, num_layers, self.stopping_heads)
        self.mixes = False

    def mixing(self) -> TransformerDecoder:
        """This decoder, with the same parameters, but where all its classifiers answer together.

        Raises UserError where it has one only.
        """
        if self.classifiers is None:
            raise UserError("mix_classifiers=true: the decoder has no auxiliary classifiers; leave it out")
        mixing = copy.copy(self)
        mixing.mixes = True
        return mixing

    @property
    def max_positions(self) -> int | None:
        """How many tokens it can take, bos or prompt included; None: any number."""
        return self.positions.max_positions or None

    @property
    def stopping_heads(self) -> dict[int, int]:
        """How many heads stop in the memory (kind=monotonic), by the numbers of the layers that have such."""
        attentions = (layer.memory_attention for layer in self.layers)
        return {i: each.num_heads for i, each in enumerate(attentions) if each.stop is not None}

    def _memory(self, memory: Memory) -> tuple[tuple[Cached, ...], Tensor]:
        """Keys and values (B,H',T,d) of every layer, and the counts (B,1,1,T) of frames, bool where all are 0 or 1.

        Those of the surface come last, where there is surface fusion.
        """
        pairs = memory.keys_values
        if pairs is None:
            states = self.memory_projection(memory.states)
            pairs = tuple(layer.kept(states, memory.sources) for layer in self.layers)
            if self.surface is not None:
                if 0 not in memory.layers:
                    raise UserError("surface_fusion: needs an encoder with layer_fusion={surface: true}")
                pairs += (self.surface.project(states, self.memory_projection(memory.layers[0].states)),)
        return pairs, memory.frame_counts[:, None, None, :]

    def prepared(self, memory: Memory) -> Memory:
        """`memory` with the keys and values of all layers, for several uses of it by this decoder."""
        return replace(memory, keys_values=self._memory(memory)[0])

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (A,U), the vectors of their positions (A,U,D) or (U,D) -> (A,U,D)"""
        x = self.embedding(tokens) * self.scale
        return self.dropout(self.norm_embedding(x + positions.to(x.dtype)))

    def logits(self, x: Tensor) -> Tensor:
        """What the layers give (...,D') -> log-probabilities (...,V) of each next token by the last, not normalised."""
        return self._output(self.norm(self._parts(x)[-1 if self.surface is None else -2]))

    def _output(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embedding.weight, self.out_bias) if self.out is None else self.out(x)

    def _parts(self, x: Tensor) -> Sequence[Tensor]:
        """What `_together` put side by side (...,D') -> its parts (...,D)"""
        return x.split(self.model_dim, dim=-1)

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """Logits (...,V) of all classifiers of what the layers give (...,D'), the last layer's at the end."""
        auxiliary = [] if self.classifiers is None else self.classifiers(self._parts(x))
        return [*auxiliary, self.logits(x)]

    def log_probs(self, x: Tensor) -> Tensor:
        """What the layers give (...,D') -> log-probabilities (...,V) of each next token."""
        mix = self.classifiers if self.mixes else None
        logits = self.logits(x) if mix is None else mix.mixed(self.all_logits(x))
        if self.surface is None:
            return logits.log_softmax(dim=-1)
        return self.surface.log_probs(logits, self._output(self._parts(x)[-1]))

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on, N a multiple of B -> log-probabilities (N,U,V) of each next token"""
        return self.log_probs(self.parallel(memory, tokens).x)

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> where each looked (N,U,T): the mean weights of all layers and heads."""
        heads = [(i, head) for i, layer in enumerate(self.layers) for head in range(layer.memory_attention.num_heads)]
        return self.read(memory, tokens, heads)[1].mean(dim=1)

    def read(self, memory: Memory, tokens: Tensor, heads: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """tokens (N,U) from bos on -> what `logits` takes (N,U,D'), and the weights of some heads (N,len(heads),U,T).

        A head is the number of its layer and its own number in the layer.
        """
        reading = self.parallel(memory, tokens, {layer for layer, _ in heads})
        return reading.x, torch.stack([reading.weights[layer][:, head] for layer, head in heads], dim=1)

    def stops(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> the frames (N,H,U) where all heads that stop did so, to predict the next of each.

        Raises UserError where there are none.
        """
        if not self.stopping_heads:
            raise UserError("no head of this decoder stops: none of its layers has cross_attention.kind=monotonic")
        alignments = self.parallel(memory, tokens).alignments
        return torch.cat([each.argmax(dim=-1) for each in alignments.values()], dim=1)

    def parallel(self, memory: Memory, tokens: Tensor, weights_of: Collection[int] = ()) -> Reading:
        """tokens (N,U) from bos on, N a multiple of B, and the numbers of layers whose weights are wanted."""
        pairs, counts = self._memory(memory)
        rows, asked = len(tokens) // len(counts), memory.asked
        if asked is not None:
            tokens = torch.cat((asked.tokens.repeat_interleave(rows, dim=0), tokens), dim=1)
        x = self._embed(tokens, self.positions.first(tokens.size(1), tokens.device))
        stops, languages = self._stops(rows), None if asked is None else asked.languages
        x, weights = self._through_layers(
            x, lambda _: before, pairs, count_bias(counts, x), stops, weights_of, languages
        )
        alignments = {i: each.alignment for i, each in stops.items() if each.alignment is not None}
        reading = Reading.of(x, weights, alignments, rows)
        return reading if asked is None else reading.after(asked.tokens.size(1))

    def _stops(self, rows: int, before: Tensor | None = None) -> dict[int, Stops]:
        """For K=`rows` hypotheses an utterance, by layers; `before` (B,K,H) as in `HypothesisCache.stopped`."""
        heads = self.stopping_heads
        parts = [None] * len(heads) if before is None else before.split(list(heads.values()), dim=-1)
        return {i: Stops(rows, part) for i, part in zip(heads, parts, strict=True)}

    def _through_layers(
        self,
        x: Tensor,
        past: Callable[[int], Past],
        memory: Sequence[Cached],
        bias: Tensor | None,
        stops: Mapping[int, Stops],
        weights_of: Collection[int] = (),
        languages: Tensor | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Embedded tokens (A,U,D) -> what the layers give (A,U,D'), and the weights (B,H,A/B*U,T) of some of them.

        `languages` (B,2) are those of the prompts.
        """
        given, kept, present = [], {}, self.layer_drop.kept()
        for i, layer in enumerate(self.layers):
            if present[i]:
                x, weights = layer(x, past(i), memory[i], bias, i in weights_of, stops.get(i), languages)
                if weights is not None:
                    kept[i] = weights
            given.append(x)
        return self._together(given, memory, bias), kept

    def _together(self, given: Sequence[Tensor], memory: Sequence[Cached], bias: Tensor | None) -> Tensor:
        """What every layer gave (A,U,D) -> all that the output is made of, side by side (A,U,D').

        What auxiliary classifiers see comes first, where they are asked; then the last layer, or groups of layers; then
        what is found in the surface.
        """
        parts = []
        if self.classifiers is not None and (self.training or self.mixes):
            parts += [given[number - 1] for number in self.classifiers.layers]
        x = given[-1]
        if self.groups is not None:
            x = self.groups([each for i, each in enumerate(given, 1) if self.groups.ends(i)])
        parts.append(x)
        if self.surface is not None:
            parts.append(self.surface(self.norm(x), memory[-1], bias))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else x

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> TransformerDecoderState:
        """State of N = B * beam_size rows."""
        pairs, counts = self._memory(memory)
        heads = [layer.self_attention.heads for layer in self.layers]
        shapes, stride = [each.cached_shapes() for each in heads], math.gcd(*(each.stride for each in heads))
        stopping = sum(self.stopping_heads.values())
        past = HypothesisCache.empty(len(counts), beam_size, shapes, pairs[0][0], stride, stopping)
        state = TransformerDecoderState.of(past, pairs, counts, need_attention)
        if memory.asked is not None:
            state.languages = memory.asked.languages
            given = memory.asked.tokens
            self.prompt(given, torch.full_like(memory.lengths, given.size(1)), state)
        return state

    def prompt(self, tokens: Tensor, lengths: Tensor, state: TransformerDecoderState) -> Tensor:
        """Begin all hypotheses of an utterance with tokens (B,P), lengths (B,) -> what the layers give (B,P,D').

        For a new state, or one that nothing but prompts has come to; it takes one pass, and one set of keys and values
        an utterance.
        """
        self.positions.check(tokens.size(1))
        positions = state.past.positions[:, :1] + torch.arange(tokens.size(1), device=tokens.device)
        x = self._embed(tokens, self.positions(positions))
        mask = state.past.open_shared(valid_mask(lengths, tokens.size(1)))
        return self._read_on(x, mask, state, state.past.stopped[:, :1], lengths.unsqueeze(1))[0]

    def step(self, tokens: Tensor, state: TransformerDecoderState) -> tuple[Tensor, TransformerDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""
        return self.log_probs(self.advance(tokens, state)), state

    def advance(self, tokens: Tensor, state: TransformerDecoderState) -> Tensor:
        """Last tokens (N,) -> what the layers give (N,D'), the state advanced in place, as in `step`."""
        past = state.past
        grown = tokens.view(past.positions.shape) >= 0
        x = self._embed(tokens.clamp(min=0).view_as(grown), self.positions(past.positions))  # (B,K,D)
        weights_of = range(len(self.layers)) if state.need_attention else ()
        x, weights = self._read_on(x, past.open(), state, past.stopped, grown.long(), weights_of)
        past.close(grown)
        state.attention = torch.stack([w.mean(dim=1) for w in weights.values()]).mean(dim=0) if weights else None
        return x.flatten(0, 1)

    def _read_on(
        self,
        x: Tensor,
        mask: Tensor,
        state: TransformerDecoderState,
        stopped: Tensor,
        counts: Tensor,
        weights_of: Collection[int] = (),
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """As `_through_layers`, of new tokens (B,A/B*U,D) that enter the cache, which `mask` (B,1,U,P) shows.

        Heads stopped last at `stopped` (B,K,H); the first `counts` (B,K) of the tokens are real.
        """
        memory = [tuple(buffer.rows for buffer in buffers) for buffers in state.memory]
        stops = self._stops(stopped.size(1), stopped)
        past, bias = state.past, count_bias(state.memory_counts, x)
        found = self._through_layers(
            x, lambda i: from_cache(past, i, mask), memory, bias, stops, weights_of, state.languages
        )
        if stops:
            past.stop(torch.cat([each.frames for each in stops.values()], dim=-1), counts)
        return found

    def select(
        self, state: TransformerDecoderState, parents: Tensor, utterances: Tensor | None = None
    ) -> TransformerDecoderState:
        """Make row n continue from row `parents[n]`, of the same utterance; `utterances` are those that stay."""
        state.select(parents, utterances)
        return state

    def join(self, state: TransformerDecoderState, other: TransformerDecoderState) -> TransformerDecoderState:
        """The utterances of `other` behind those of `state`."""
        state.join(other)
        return state
