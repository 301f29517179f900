from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.test_attention_family import grow
from torch import Tensor
from toy import BOS, EOS, toy_bundle, toy_memory, toy_model, toy_source

import s2s
from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import load_bundle
from s2s.models.hybrid import HybridModel
from s2s.models.lstm_decoder import LSTMDecoder
from s2s.models.memory import Memory
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.quantise import set_dtype
from s2s.tokenizers.base import SPACE, SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer
from s2s.tokenizers.load import train_tokenizer
from s2s.training.config import load_train_config

OPTIONS: dict[str, dict[str, Any]] = {
    "rwth": {"attention": "additive", "weight_feedback": True},
    "rwth, deep, two heads": {"num_layers": 3, "attention": "additive", "weight_feedback": True, "num_heads": 2},
    "gnmt": {"num_layers": 4, "readout": "linear", "attention": "additive"},
    "not fed": {"num_layers": 4, "readout": "linear", "attention": "additive", "input_feeding": False},
    "dot product": {"num_layers": 2, "num_heads": 2},
    "dot product, not fed": {"num_layers": 3, "num_heads": 2, "input_feeding": False, "readout": "linear"},
    "one layer, not fed": {"input_feeding": False},
    "no residual": {"num_layers": 4, "residual": False},
}


def decoder(name: str, seed: int = 0, memory_dim: int = 16) -> LSTMDecoder:
    torch.manual_seed(seed)
    return LSTMDecoder(7, memory_dim, 12, **OPTIONS[name]).double().eval()


def cell(layer: torch.nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber's cell with a forget gate."""
    gates = layer.weight_ih_l0 @ x + layer.bias_ih_l0 + layer.weight_hh_l0 @ h + layer.bias_hh_l0
    i, f, g, o = (gates[n * len(h) : (n + 1) * len(h)] for n in range(4))
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def looked(model: LSTMDecoder, s: Tensor, states: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
    """Query s (D), states (T,M), sums of weights (H,T) -> context (C), weights (H,T)."""
    attention = model.memory_attention
    contexts, weights = [], []
    if isinstance(attention, Attention):
        heads, h = attention.heads, model.memory_projection(states)
        size = heads.head_dim
        for head in range(heads.num_heads):
            part = slice(head * size, (head + 1) * size)
            q = heads.query.weight[part] @ s + heads.query.bias[part]
            k = h @ heads.key.weight[part].T + heads.key.bias[part]
            weights.append((k @ q / math.sqrt(size)).softmax(dim=0))
            contexts.append(weights[-1] @ (h @ heads.value.weight[part].T + heads.value.bias[part]))
        return heads.out.weight @ torch.cat(contexts) + heads.out.bias, torch.stack(weights)
    hidden = states @ attention.key.weight.T + attention.key.bias + attention.query.weight @ s
    if attention.feedback is not None:
        beta = (states @ attention.inverse_fertility.weight.T).sigmoid() * attended.T  # (T,H)
        hidden = hidden + beta @ attention.feedback.weight.T
    size = states.size(1) // attention.num_heads
    for head in range(attention.num_heads):
        weights.append((hidden.tanh() @ attention.score.weight[head]).softmax(dim=0))
        contexts.append(weights[-1] @ states[:, head * size : (head + 1) * size])
    return torch.cat(contexts), torch.stack(weights)


def reference(model: LSTMDecoder, states: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """log P (U,V) of each next token and weights (U,T), from the papers, one token and one layer at a time."""
    past = [(torch.zeros(12).double(), torch.zeros(12).double()) for _ in model.layers]
    context = torch.zeros(model.context_dim).double()
    attended = torch.zeros(model.memory_attention.num_heads, len(states)).double()
    log_probs, weights = [], []
    for token in tokens:
        embedded = model.embedding.weight[token]
        fed = torch.cat((embedded, context)) if model.input_feeding else embedded
        past[0] = cell(model.layers[0], fed, *past[0])
        x = past[0][0]
        context, alpha = looked(model, x, states, attended)
        attended = attended + alpha
        for i in range(1, len(past)):
            past[i] = cell(model.layers[i], torch.cat((x, context)), *past[i])
            x = past[i][0] + (x if model.residual and i >= 2 else 0.0)
        if model.readout is not None:
            pairs = model.readout.weight @ torch.cat((x, embedded, context)) + model.readout.bias
            x = torch.stack([max(pairs[2 * d], pairs[2 * d + 1]) for d in range(6)])
        log_probs.append((model.out.weight @ x + model.out.bias).log_softmax(dim=0))
        weights.append(alpha.mean(dim=0))
    return torch.stack(log_probs), torch.stack(weights)


@pytest.mark.parametrize("name", OPTIONS)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    rows=st.integers(1, 2),
    size=st.integers(1, 5),
    memory_dim=st.sampled_from([12, 16]),
    seed=st.integers(0, 99),
)
@settings(max_examples=6)
def test_the_numbers_are_those_of_the_equations(
    name: str, lengths: list[int], rows: int, size: int, memory_dim: int, seed: int
) -> None:
    model, memory = decoder(name, seed, memory_dim), toy_memory(lengths, seed, memory_dim)
    tokens = torch.randint(7, (len(lengths) * rows, size))
    with torch.no_grad():
        found, weights = model(memory, tokens), model.attention(memory, tokens)
        for n, row in enumerate(tokens.tolist()):
            length = lengths[n // rows]
            log_probs, alpha = reference(model, memory.states[n // rows, :length], row)
            torch.testing.assert_close(found[n], log_probs, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(weights[n, :, :length], alpha, rtol=1e-9, atol=1e-10)
            assert not weights[n, :, length:].any()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", OPTIONS)
def test_a_token_at_a_time_gives_the_numbers_of_all_at_once(name: str, seed: int) -> None:
    grow(decoder(name, seed), [7, 1, 12, 4], steps=8, seed=seed)


def test_a_prepared_memory_is_used_in_place_of_its_states() -> None:
    for name in ("rwth", "dot product"):
        model, memory, tokens = decoder(name), toy_memory([5, 3]), torch.tensor([[2, 3], [4, 5]])
        prepared = model.prepared(memory)
        unread = replace(prepared, states=torch.full_like(memory.states, math.nan))
        torch.testing.assert_close(model(unread, tokens), model(memory, tokens))
        torch.testing.assert_close(model(unread.rows(1, 2), tokens[1:]), model(memory, tokens)[1:])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_frame_that_stands_for_several_is_several(name: str) -> None:
    model, states = decoder(name), toy_memory([3]).states
    tokens = torch.tensor([[2, 4, 5, 3, 6]])
    counts = torch.tensor([[1, 3, 2]])
    repeated = Memory(states[:, [0, 1, 1, 1, 2, 2]], torch.tensor([6]))
    together = Memory(states, torch.tensor([3]), counts=counts)
    torch.testing.assert_close(model(together, tokens), model(repeated, tokens))
    weights = model.attention(repeated, tokens)
    sums = torch.stack([weights[..., :1].sum(-1), weights[..., 1:4].sum(-1), weights[..., 4:].sum(-1)], dim=-1)
    torch.testing.assert_close(model.attention(together, tokens), sums)


@pytest.mark.parametrize("name", OPTIONS)
def test_silence_of_any_length_is_the_same_so_that_an_internal_language_model_can_be_subtracted(name: str) -> None:
    model, tokens = decoder(name), torch.tensor([[2, 4, 5, 3, 6]])
    one, many = (Memory(torch.zeros(1, n, 16).double(), torch.tensor([n])) for n in (1, 9))
    torch.testing.assert_close(model(one, tokens), model(many, tokens))


def hybrid(name: str, seed: int = 0) -> HybridModel:
    """The toy model with an LSTM decoder, whose hypotheses differ clearly."""
    plain = toy_model(8, seed)
    torch.manual_seed(seed)
    decoders = [LSTMDecoder(8, 16, 16, **OPTIONS[name]) for _ in range(2)]
    for parameter in (*decoders[0].parameters(), *decoders[1].parameters()):
        torch.nn.init.normal_(parameter)
    model = HybridModel(8, plain.normalise, plain.encoder, decoders[0], reverse_decoder=decoders[1])  # type: ignore[arg-type]
    model.ctc.load_state_dict(plain.ctc.state_dict())
    return model.double().eval()


TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "a", "b", SPACE, "c"])
MODES = {
    "greedy": {"search": "beam", "beam_size": 1, "ctc_weight": 0.0},
    "joint": {"beam_size": 4, "nbest": 4, "attention": True, "token_times": True},
    "internal_lm": {"beam_size": 4, "nbest": 4, "internal_lm_weight": 0.2},
    "coverage": {"beam_size": 4, "nbest": 4, "ctc_weight": 0.0, "coverage_beta": 0.2, "min_length": 2},
    "sampling": {"search": "sampling", "beam_size": 3, "nbest": 3},
    "rescoring": {"search": "ctc_prefix", "beam_size": 4, "nbest": 4, "rescore": True, "reverse_weight": 0.3},
}


@pytest.mark.parametrize("name", ["rwth", "gnmt", "dot product, not fed"])
@pytest.mark.parametrize("mode", MODES)
def test_an_utterance_decodes_the_same_alone_and_in_any_batch(name: str, mode: str) -> None:
    config = DecodingConfig(**{"batch_size": 2, **MODES[mode]})  # type: ignore[arg-type]
    model, lengths = hybrid(name), [40, 9, 25, 60, 33]
    search = build_search(config, [model], TOKENIZER)
    with torch.no_grad():
        together = search(model.encode(*toy_source(lengths, padding=math.nan, more=7)))
        for b, length in enumerate(lengths):
            memory = model.encode(*toy_source([length], seed=b))
            alone = search(memory)[0]
            assert [h.tokens for h in together[b]] == [h.tokens for h in alone]
            assert [h.score for h in together[b]] == pytest.approx([h.score for h in alone], abs=1e-8)
            key = "attention_rescoring" if mode == "rescoring" else "attention"
            for hypothesis in together[b]:
                log_probs = model.decoder(memory, torch.tensor([[BOS, *hypothesis.tokens]]))[0]
                expected = sum(log_probs[i, t].item() for i, t in enumerate([*hypothesis.tokens, EOS]))
                assert hypothesis.scores[key] == pytest.approx(expected, abs=1e-8)
    assert len({tuple(found[0].tokens) for found in together}) > 1


def test_an_internal_language_model_is_what_the_decoder_says_of_silence() -> None:
    model = hybrid("rwth")
    search = build_search(DecodingConfig(beam_size=4, internal_lm_weight=0.2), [model], TOKENIZER)
    silence = Memory(torch.zeros(1, 5, 16).double(), torch.tensor([5]))
    with torch.no_grad():
        for found in search(model.encode(*toy_source([40, 25]))):
            log_probs = model.decoder(silence, torch.tensor([[BOS, *found[0].tokens]]))[0]
            expected = sum(log_probs[i, t].item() for i, t in enumerate([*found[0].tokens, EOS]))
            assert found[0].scores["internal_lm"] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("rwth", torch.float32), ("rwth", torch.bfloat16), ("gnmt", torch.float32)],
)
def test_a_whole_model_learns_a_toy_batch(name: str, precision: torch.dtype) -> None:
    plain = toy_model(8)
    model = HybridModel(8, plain.normalise, plain.encoder, LSTMDecoder(8, 16, 16, **OPTIONS[name]))  # type: ignore[arg-type]
    source, lengths = toy_source([40, 25, 33])
    target, target_lengths = torch.tensor([[4, 5, 7], [6, 6, 0], [5, 4, 0]]), torch.tensor([3, 2, 2])
    model = model.float().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = model(source.float(), lengths, target, target_lengths).attention
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_a_bundle_of_it_is_whole_aligns_and_transcribes(tmp_path: Path) -> None:
    bundle = toy_bundle()
    config = dict(bundle.model_config)
    config["decoder"] = {
        "_target_": "s2s.models.lstm_decoder.LSTMDecoder",
        "vocab_size": config["vocab_size"],
        "memory_dim": 16,
        "model_dim": 16,
        "num_layers": 3,
        **OPTIONS["rwth"],
    }
    model = build(config).eval()
    assert isinstance(model, HybridModel)
    replace(bundle, model=model, model_config=config).save(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle").model
    for memory in (toy_memory([5, 3]), toy_memory([2])):
        memory = Memory(memory.states.float(), memory.lengths)
        tokens = torch.tensor([[2, 3]] * len(memory.lengths))
        torch.testing.assert_close(loaded.decoder(memory, tokens), model.decoder(memory, tokens))
    soundfile.write(tmp_path / "noise.wav", 0.1 * torch.randn(12000).numpy(), 8000)
    transcriber = s2s.load(tmp_path / "bundle", load_decoding_config(["decoding.beam_size=2"]))
    assert [word.text for word in transcriber.align(tmp_path / "noise.wav", "one two")] == ["one", "two"]
    assert len(list(transcriber.transcribe([tmp_path / "noise.wav"]))) == 1
    set_dtype(loaded, "int8")
    int8 = loaded.decoder(Memory(memory.states, memory.lengths), tokens)
    torch.testing.assert_close(int8, model.decoder(memory, tokens), atol=0.2, rtol=0.1)


def test_the_shipped_config_is_a_whole_model_that_takes_other_parts(tmp_path: Path) -> None:
    train_tokenizer("char", ["one two"]).save(tmp_path)
    options = [f"tokenizer={tmp_path}", "model=lstm_attention", "model.encoder.num_layers=1"]
    model = build(load_train_config("train", options).model)
    assert isinstance(model.decoder, LSTMDecoder)
    assert model.decoder.context_dim == 144
    config = load_train_config("train", options).model
    other = {**config["decoder"], "attention": "dot_product", "cross_attention": {"kind": "relaxed"}}
    other.pop("weight_feedback")
    found = build({**config, "decoder": other}).decoder
    assert found.memory_attention.config == AttentionConfig(kind="relaxed")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, r"num_layers=0: expected at least 1"),
        ({"attention": "aditive"}, r"attention=aditive: expected dot_product or additive\. Did you mean 'additive'"),
        ({"readout": "max"}, r"readout=max: expected linear or maxout"),
        ({"readout": "linear"}, r"readout=linear: .*num_layers of at least 2"),
        ({"model_dim": 15}, r"model_dim=15: .*even"),
        ({"weight_feedback": True}, r"weight_feedback=true: is for attention=additive, not dot_product"),
        ({"attention": "additive", "cross_attention": {}}, r"cross_attention: has no effect with attention=additive"),
        ({"attention": "additive", "num_heads": 3}, r"num_heads=3: the memory's 16 dimensions"),
        ({"num_heads": 3, "model_dim": 16}, r"model_dim=16 does not divide into num_heads=3"),
        ({"cross_attention": {"reach": "limited"}}, r"reach=limited: "),
        (
            {"cross_attention": [{"kind": "relaxed"}]},
            r"model\.cross_attention: expected a mapping of keys such as kind",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    target = {"_target_": "s2s.models.lstm_decoder.LSTMDecoder", "vocab_size": 7, "memory_dim": 16}
    with pytest.raises(UserError, match=message):
        build({**target, **options})
