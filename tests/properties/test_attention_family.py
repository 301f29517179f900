"""What every attention promises, in every encoder and decoder: a new one is tested by being listed here."""

from __future__ import annotations

import random
from dataclasses import asdict
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import toy_memory, toy_source

from s2s.models.build import build
from s2s.models.memory import Memory
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig, changed

# Attention of any kind, in self-attention and over a memory.
ANYWHERE: dict[str, dict[str, Any]] = {
    "softmax": {},
    "relaxed": {"kind": "relaxed", "gamma": 0.3, "relax_always": True},
    "sparsemax": {"kind": "sparsemax"},
    "entmax15": {"kind": "entmax15"},
    "entmax": {"kind": "entmax"},
    "rectified": {"kind": "rectified"},
    "multi-query": {"kv_heads": 1},
    "grouped": {"num_heads": 4, "kv_heads": 2, "head_dim": 4},
    "head size": {"num_heads": 3, "head_dim": 6},
    "knocking": {"knocking": True},
    "weighted grouped": {"projection": "weighted_grouped", "num_heads": 4, "kv_heads": 2},
    "keys only": {"projection": "keys_only"},
    "keys only, many heads": {"projection": "keys_only", "num_heads": 8},
    "masked heads": {"masked_heads": 1},
    "mixture": {"num_heads": 4, "head_dim": 4, "active_heads": 1, "shared_heads": 1},
    "mixture, none shared": {"num_heads": 3, "head_dim": 4, "active_heads": 2},
}
# Of a sequence to itself.
WITHIN: dict[str, dict[str, Any]] = {
    "limited": {"reach": "limited", "left": 2, "right": 1},
    "limited, global": {"reach": "limited", "left": 1, "right": 1, "global_frames": 2},
    "chunked": {"reach": "chunked", "chunk_size": 3},
    "chunked, limited": {"reach": "chunked", "chunk_size": 2, "left_chunks": 1},
}
# Of frames to all frames of an utterance that is there as a whole.
ENCODED: dict[str, dict[str, Any]] = {"limited above": {"reach": "limited", "left": 1, "right": 2, "above": 5}}
# Of a decoder to its past.
BEFORE: dict[str, dict[str, Any]] = {
    "temporal latent": {"projection": "temporal_latent", "latent_dim": 6},
    "temporal latent of 3": {"projection": "temporal_latent", "latent_stride": 3},
}
# Of a decoder to a memory.
OVER: dict[str, dict[str, Any]] = {
    "strided": {"reach": "strided", "stride": 3, "num_heads": 4, "head_dim": 4},
}
# Of a Transformer decoder to a memory: heads that stop.
STOPPING: dict[str, dict[str, Any]] = {
    "monotonic": {"kind": "monotonic", "num_heads": 3, "head_dim": 6},
    "monotonic, chunk": {"kind": "monotonic", "lookback": "chunk", "lookback_frames": 2, "stop_noise": 1.0},
    "monotonic, hard": {"kind": "monotonic", "lookback": "none", "kv_heads": 1},
    "monotonic, waiting": {"kind": "monotonic", "num_heads": 4, "head_dim": 4, "head_wait": 1, "masked_heads": 1},
    "monotonic, keys only": {"kind": "monotonic", "projection": "keys_only"},
}
POSITIONS = ("sinusoidal", "relative", "rotary", "alibi", "none")

small = {"model_dim": 16, "num_layers": 2, "num_heads": 2, "feed_forward_dim": 24, "dropout": 0.1}
SUBSAMPLING = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}
ENCODERS: dict[str, dict[str, Any]] = {
    "transformer": {
        "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
        "front": {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 8, "model_dim": 16},
        **small,
    },
    "conformer": {
        "_target_": "s2s.models.conformer.ConformerEncoder",
        "front": {**SUBSAMPLING, "factor": 4},
        "kernel_size": 3,
        **small,
    },
    "branchformer": {
        "_target_": "s2s.models.branchformer.BranchformerEncoder",
        "front": {**SUBSAMPLING, "factor": 2},
        "gating_dim": 12,
        "kernel_size": 5,
        **small,
    },
}
# Encoders with an attention of their own, or none.
OTHER_ENCODERS: dict[str, dict[str, Any]] = {
    "fast conformer": {
        "_target_": "s2s.models.conformer.ConformerEncoder",
        "front": {**SUBSAMPLING, "factor": 8, "separable": True},
        "kernel_size": 9,
        "shared_feed_forward": True,
        "attention": {"reach": "limited", "left": 2, "right": 1, "global_frames": 1},
        **small,
    },
    "lstm": {
        "_target_": "s2s.models.lstm_encoder.LSTMEncoder",
        "front": {**SUBSAMPLING, "factor": 1},
        "model_dim": 16,
        "num_layers": 3,
        "hidden_dim": 6,
        "pyramid": [2, 3],
    },
    "transformer, groups": {**ENCODERS["transformer"], "num_layers": 4, "layer_fusion": {"group_size": 2}},
    "conformer, groups": {**ENCODERS["conformer"], "num_layers": 4, "layer_fusion": {"group_size": 2}},
}
DECODERS: dict[str, dict[str, Any]] = {
    "transformer": {
        "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
        "vocab_size": 7,
        "memory_dim": 16,
        **small,
    },
}
# Decoders that attend to a memory only.
RECURRENT: dict[str, dict[str, Any]] = {
    "lstm": {
        "_target_": "s2s.models.lstm_decoder.LSTMDecoder",
        "vocab_size": 7,
        "memory_dim": 16,
        "model_dim": 16,
        "num_layers": 3,
        "num_heads": 2,
    },
}
# Decoders whose output sees more than the last layer.
OTHER_DECODERS: dict[str, dict[str, Any]] = {
    "groups": {**DECODERS["transformer"], "num_layers": 4, "group_size": 2},
    "surface": {**DECODERS["transformer"], "surface_fusion": {"mode": "soft"}, "pre_norm": False, "final_norm": False},
    "classifiers": {**DECODERS["transformer"], "surface_fusion": {}, "classifiers": {"layers": [1], "weights": [0.4]}},
}

IN_ENCODERS, IN_DECODERS = ANYWHERE | WITHIN | ENCODED, ANYWHERE | WITHIN | BEFORE
OVER_MEMORY = ANYWHERE | OVER | STOPPING
MEMORY_KINDS = [*product(DECODERS, OVER_MEMORY), *product(RECURRENT, ANYWHERE | OVER)]
ENCODER_KINDS = [
    *product(ENCODERS, IN_ENCODERS, ("relative",)),
    *product(ENCODERS, ("softmax", "limited"), (p for p in POSITIONS if p != "relative")),
    *((name, "", "") for name in OTHER_ENCODERS),
]
DECODER_KINDS = [
    *product(DECODERS, IN_DECODERS, ("sinusoidal",)),
    *product(DECODERS, ("softmax", "multi-query", "limited"), (p for p in POSITIONS if p != "sinusoidal")),
    *product(OTHER_DECODERS, ("softmax",), ("sinusoidal",)),
]
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def randomised(model: nn.Module) -> Any:
    """In float64, with biases and norms that are random too."""
    for parameter in model.parameters():
        if parameter.dim() == 1 or parameter.size(-2) == 1:
            nn.init.normal_(parameter)
    return model.double().eval()


def encoder(name: str, kind: str, positions: str) -> Any:
    torch.manual_seed(0)
    options = {"positions": positions, "attention": IN_ENCODERS[kind]} if name in ENCODERS else {}
    return randomised(build({**(ENCODERS | OTHER_ENCODERS)[name], **options}))


def decoder(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return randomised(build({**(DECODERS | RECURRENT | OTHER_DECODERS)[name], **options}))


@pytest.mark.parametrize(("name", "kind", "positions"), ENCODER_KINDS)
def test_an_utterance_is_encoded_the_same_alone_and_in_any_batch(name: str, kind: str, positions: str) -> None:
    model = encoder(name, kind, positions)
    lengths = [40, 9, 33, 61]
    alone = [model(*toy_source([n], seed=i)).states[0] for i, n in enumerate(lengths)]
    for order, padding in (([0, 1, 2, 3], 0.0), ([3, 1, 0, 2], float("nan")), ([2, 1], 1e4)):
        source = torch.full((len(order), max(lengths[i] for i in order) + 5, 8), padding).double()
        for b, i in enumerate(order):
            source[b, : lengths[i]] = toy_source([lengths[i]], seed=i)[0][0]
        memory = model(source, torch.tensor([lengths[i] for i in order]))
        for b, i in enumerate(order):
            assert memory.lengths[b] == len(alone[i])
            torch.testing.assert_close(memory.states[b, : memory.lengths[b]], alone[i], **CLOSE)


def grow(model: Any, lengths: list[int], steps: int, beam_size: int = 2, seed: int = 0) -> None:
    """Grow, stay, change parents, join and leave at random: each row has the numbers of its own past, given at once."""
    chance = random.Random(seed)
    memories = [toy_memory([length], seed + i) for i, length in enumerate(lengths)]
    state = model.start(memories[0], beam_size, need_attention=True)
    present, waiting = [0], list(range(1, len(memories)))
    past: list[list[int]] = [[] for _ in range(beam_size)]
    for _ in range(steps):
        if waiting and chance.random() < 0.4:
            present.append(waiting.pop(0))
            state = model.join(state, model.start(memories[present[-1]], beam_size, need_attention=True))
            past += [[] for _ in range(beam_size)]
        tokens = [chance.choice([-1, 2, 3, 4, 5, 6]) for _ in past]
        found, state = model.step(torch.tensor(tokens), state)
        for n, token in enumerate(tokens):
            if token >= 0:
                past[n].append(token)
                memory, own = memories[present[n // beam_size]], torch.tensor([past[n]])
                torch.testing.assert_close(found[n], model(memory, own)[0, -1], **CLOSE)
                looked = model.attention(memory, own)[0, -1]
                weights: Tensor = state.attention[n // beam_size, n % beam_size]
                torch.testing.assert_close(weights[: len(looked)], looked, **CLOSE)
                assert not weights[len(looked) :].any()
        staying = [b for b in range(len(present)) if chance.random() < 0.9] or [0]
        parents = [b * beam_size + chance.randrange(beam_size) for b in staying for _ in range(beam_size)]
        leaving = len(staying) < len(present)
        state = model.select(state, torch.tensor(parents), torch.tensor(staying) if leaving else None)
        present, past = [present[b] for b in staying], [list(past[p]) for p in parents]


@pytest.mark.parametrize(("name", "kind", "positions"), DECODER_KINDS)
def test_a_token_at_a_time_gives_the_numbers_of_all_at_once(name: str, kind: str, positions: str) -> None:
    grow(decoder(name, positions=positions, self_attention=IN_DECODERS[kind]), [5, 3, 6], steps=14)


@pytest.mark.parametrize(("name", "kind"), MEMORY_KINDS)
def test_a_memory_is_attended_to_alike_a_token_at_a_time_and_at_once(name: str, kind: str) -> None:
    grow(decoder(name, cross_attention=OVER_MEMORY[kind]), [7, 1, 12, 4], steps=10)


@pytest.mark.parametrize(("name", "kind"), MEMORY_KINDS)
def test_no_frame_past_the_end_of_a_memory_is_attended_to(name: str, kind: str) -> None:
    model, memory = decoder(name, cross_attention=OVER_MEMORY[kind]), toy_memory([7, 2, 4])
    tokens = torch.tensor([[2, 3, 4]] * 3)
    together = model(memory, tokens)
    for b in range(3):
        alone = model(memory.rows(b, b + 1), tokens[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, **CLOSE)


class Called(nn.Module):
    """A layer called in some way, as a module."""

    def __init__(self, layer: Attention, run: Any) -> None:
        super().__init__()
        self.layer, self.run = layer, run

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.run(self.layer, *inputs)
        return result


def has_right_gradients(layer: Attention, run: Any, *inputs: Tensor) -> bool:
    module = Called(layer, run)
    names = [name for name, _ in module.named_parameters()]

    def function(*given: Tensor) -> Tensor:
        parameters = dict(zip(names, given, strict=False))
        result: Tensor = torch.func.functional_call(module, parameters, given[len(names) :])
        return result

    given = [x.detach().clone().requires_grad_() for x in (*module.parameters(), *inputs)]
    return torch.autograd.gradcheck(function, given, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    ("kind", "positions"), [*product(IN_ENCODERS | IN_DECODERS, ("none",)), *product(("softmax", "limited"), POSITIONS)]
)
def test_gradients_within_a_sequence_are_those_of_small_differences(kind: str, positions: str) -> None:
    torch.manual_seed(0)
    config = AttentionConfig(**(IN_ENCODERS | IN_DECODERS)[kind])
    layer = randomised(Attention(8, 2, config=config, positions=positions, block_size=3))
    assert has_right_gradients(
        layer, lambda layer, x: layer.within(x, causal=kind in BEFORE), torch.randn(2, 7, 8).double()
    )


@pytest.mark.parametrize("kind", OVER_MEMORY)
def test_gradients_over_a_memory_are_those_of_small_differences(kind: str) -> None:
    torch.manual_seed(0)
    layer = randomised(Attention(8, 2, config=AttentionConfig(**OVER_MEMORY[kind]), over_memory=True))

    def run(layer: Attention, x: Tensor, memory: Tensor) -> Tensor:
        return layer.over(x, layer.project(memory), torch.ones(2, 1, 1, 6, dtype=torch.bool))[0]

    assert has_right_gradients(layer, run, torch.randn(2, 3, 8).double(), torch.randn(2, 6, 8).double())


@pytest.mark.parametrize("kind", IN_ENCODERS | BEFORE | OVER | STOPPING)
def test_a_config_is_what_it_was_when_read_back_and_weights_fit(kind: str) -> None:
    options = (IN_ENCODERS | BEFORE | OVER | STOPPING)[kind]
    config = AttentionConfig(**options)
    assert {key: getattr(config, key) for key in changed(config)}.items() <= options.items()
    assert AttentionConfig(**asdict(config)) == config
    one, other = (Attention(8, 2, config=config, over_memory=kind in OVER | STOPPING) for _ in range(2))
    other.load_state_dict(one.state_dict())


class States(nn.Module):
    """An encoder that gives states only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, lengths: Tensor) -> Tensor:
        states: Tensor = self.model(source, lengths).states
        return states


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch's, of its own LSTM
@pytest.mark.parametrize(("name", "kind", "positions"), ENCODER_KINDS)
def test_an_exported_encoder_gives_what_it_gave(name: str, kind: str, positions: str) -> None:
    model = encoder(name, kind, positions)
    source, lengths = toy_source([48, 31])
    expected = model(source, lengths)
    found = torch.export.export(States(model), (source, lengths)).module()(source, lengths)
    for b, length in enumerate(expected.lengths.tolist()):
        torch.testing.assert_close(found[b, :length], expected.states[b, :length], **CLOSE)


class LogProbs(nn.Module):
    """A decoder over the states of a memory."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        result: Tensor = self.model(Memory(states, lengths), tokens)
        return result


@pytest.mark.parametrize(
    ("part", "kind"), [*product(("self_attention",), IN_DECODERS), *product(("cross_attention",), OVER_MEMORY)]
)
def test_an_exported_decoder_gives_what_it_gave(part: str, kind: str) -> None:
    model = LogProbs(decoder("transformer", **{part: (IN_DECODERS | OVER_MEMORY)[kind]}))
    memory = toy_memory([7, 3])
    given = (memory.states, memory.lengths, torch.tensor([[2, 3, 4, 5, 6], [2, 6, 5, 4, 3]]))
    torch.testing.assert_close(torch.export.export(model, given).module()(*given), model(*given), **CLOSE)
