"""Losses of how a memory is read, against loops over heads, tokens and frames."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_memory
from toy_monotonic import monotonic_decoder, monotonic_model

from s2s.errors import UserError
from s2s.models.alignment_loss import AlignmentLoss, AlignmentLossConfig
from s2s.models.build import build
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.lengths import valid_mask

ALL = AlignmentLossConfig(latency=0.3, divergence=0.5, variance=0.7)


@given(
    lengths=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    measure=st.sampled_from(["average", "dal"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_each_loss_is_what_its_paper_says(lengths: list[int], sizes: list[int], measure: str, seed: int) -> None:
    torch.manual_seed(seed)
    B, T, U, H = len(lengths), max(lengths), max(sizes), 3
    sizes = sizes[:B]
    counted, frames = valid_mask(torch.tensor(sizes), U), valid_mask(torch.tensor(lengths), T)[:, None, None]
    alignment, weights = (
        torch.randn(B, H, U, T).double().masked_fill(~frames, -math.inf).softmax(dim=-1) for _ in range(2)
    )
    a, w = alignment.tolist(), weights.tolist()
    expected = dict.fromkeys(("latency", "divergence", "variance", "monotonic_penalty"), 0.0)
    for b, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        lagging = 0.0
        for i in range(size):
            delays = [sum((j + 1) * a[b][h][i][j] for j in range(length)) for h in range(H)]
            total = sum(math.exp(g) for g in delays)
            late = sum(math.exp(g) / total * g for g in delays)
            rate = length / size
            lagging = late if i == 0 else max(late, lagging + rate)
            expected["latency"] += (late if measure == "average" else lagging - i * rate) / length
            mean = sum(delays) / H
            expected["divergence"] += sum((g - mean) ** 2 for g in delays) / H / length**2
            for h in range(H):
                square = sum((j + 1) ** 2 * a[b][h][i][j] for j in range(length))
                expected["variance"] += (square - delays[h] ** 2) / H / length**2
                if i:
                    last, now = (sum(j * w[b][h][u][j] for j in range(length)) for u in (i - 1, i))
                    expected["monotonic_penalty"] += max(0.0, last - now) / H / length
    config = AlignmentLossConfig(0.3, measure, 0.5, 0.7, 0.9)
    loss = AlignmentLoss(config, 2, [0])
    found, parts = loss(
        [alignment[:, :1], alignment[:, 1:]], [weights[:, :2], weights[:, 2:]], counted, torch.tensor(lengths)
    )
    assert set(parts) == set(expected)
    for name, part in parts.items():
        assert part.item() == pytest.approx(expected[name] / sum(sizes), abs=1e-9)
    total = sum(getattr(config, name) * part for name, part in parts.items())
    torch.testing.assert_close(found, total)


def test_it_is_added_to_the_loss_of_a_model_and_told() -> None:
    model, plain = monotonic_model(seed=1, loss=ALL), monotonic_model(seed=1)
    memory, target, sizes = toy_memory([12, 7]), torch.tensor([[4, 5, 6], [5, 0, 0]]), torch.tensor([3, 1])
    for training in (False, True):
        with_it, without = (each.train(training).loss(memory, target, sizes) for each in (model, plain))
        parts = with_it.parts
        assert set(parts) == {"cross_entropy", "latency", "divergence", "variance"}
        assert not without.parts
        more = 0.3 * parts["latency"] + 0.5 * parts["divergence"] + 0.7 * parts["variance"]
        torch.testing.assert_close(parts["cross_entropy"], without.attention)
        torch.testing.assert_close(with_it.attention, without.attention + more)
        assert 0.0 < parts["latency"].item() <= 1.0
    # A head that decides stops at one frame.
    assert model.eval().loss(memory, target, sizes).parts["variance"].item() == 0.0
    assert model.train().loss(memory, target, sizes).parts["variance"].item() > 0.0


def test_to_follow_the_gradient_of_the_latency_is_to_stop_earlier() -> None:
    model = monotonic_model(seed=1, loss=AlignmentLossConfig(latency=1.0, variance=1.0)).train()
    memory, target, sizes = toy_memory([12, 7]), torch.tensor([[4, 5, 6], [5, 0, 0]]), torch.tensor([3, 1])
    biases = [layer.memory_attention.stop.bias for layer in model.decoder.layers]  # type: ignore[attr-defined]
    before = model.loss(memory, target, sizes).parts["latency"]
    for gradient in torch.autograd.grad(before, biases):
        assert bool((gradient < 0).all())
    variance = model.loss(memory, target, sizes).parts["variance"]
    for bias, gradient in zip(biases, torch.autograd.grad(variance, biases), strict=True):
        bias.data -= 0.1 * gradient / gradient.norm()
    assert model.loss(memory, target, sizes).parts["variance"].item() < variance.item()


@pytest.mark.parametrize("kind", ["softmax", "entmax15"])
def test_attention_that_goes_back_is_penalised_in_any_soft_decoder(kind: str) -> None:
    torch.manual_seed(0)
    config, loss = AttentionConfig(kind=kind), AlignmentLossConfig(monotonic_penalty=2.0)
    decoder = TransformerDecoder(7, 16, 16, 2, 2, 32, 0.0, cross_attention=config, alignment_loss=loss).double()
    memory, tokens = toy_memory([9, 5]), torch.tensor([[2, 4, 5, 6], [2, 5, 4, 4]])
    weights = decoder.read(memory, tokens, [(i, h) for i in range(2) for h in range(2)])[1]
    looked = (weights * torch.arange(9)).sum(dim=-1)
    back = (looked[..., :-1] - looked[..., 1:]).relu() / memory.lengths[:, None, None]
    assert decoder.alignment_loss is not None
    counted = torch.ones(2, 4, dtype=torch.bool)
    found, parts = decoder.alignment_loss([], [weights[:, :2], weights[:, 2:]], counted, memory.lengths)
    torch.testing.assert_close(parts["monotonic_penalty"], back.mean(dim=1).sum() / 8)
    model = EncoderDecoder(7, torch.nn.Identity(), decoder)
    model.encode = lambda source, lengths, asked: memory  # type: ignore[method-assign]
    target = model.train()(tokens, memory.lengths, tokens[:, 1:], torch.tensor([3, 3]))
    decoder.alignment_loss = None
    plain = model(tokens, memory.lengths, tokens[:, 1:], torch.tensor([3, 3]))
    torch.testing.assert_close(target, plain + found)
    for head in torch.autograd.grad(found, [layer.memory_attention.heads.query.weight for layer in decoder.layers]):
        assert float(head.abs().sum()) > 0.0


@pytest.mark.parametrize(
    ("options", "monotonic", "message"),
    [
        ({"latency": 0.1}, False, r"alignment_loss\.latency=0\.1: has no effect without heads that stop"),
        ({"divergence": 0.1}, False, r"alignment_loss\.divergence=0\.1: has no effect without heads that stop"),
        ({"variance": 0.1}, False, r"alignment_loss\.variance=0\.1: has no effect without heads that stop"),
        ({"monotonic_penalty": 0.1}, True, r"alignment_loss\.monotonic_penalty=0\.1: has no effect where all heads"),
        ({"measure": "al", "latency": 0.1}, True, r"measure=al: expected average or dal"),
        ({"measure": "dal"}, True, r"measure=dal: has no effect without latency"),
        ({"variance": -0.1}, True, r"variance=-0\.1: expected a weight, 0 or more"),
    ],
)
def test_a_loss_that_is_wrong_or_without_effect_is_refused(
    options: dict[str, object], monotonic: bool, message: str
) -> None:
    config = {
        "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
        "vocab_size": 7,
        "memory_dim": 16,
        "model_dim": 16,
        "cross_attention": {"kind": "monotonic"} if monotonic else {},
        "alignment_loss": options,
    }
    with pytest.raises(UserError, match=message):
        build(config, "decoder")


def test_decoders_with_both_kinds_of_layers_have_both_kinds_of_losses() -> None:
    configs = [AttentionConfig(kind="monotonic"), AttentionConfig()]
    decoder = TransformerDecoder(
        7,
        16,
        16,
        4,
        2,
        32,
        cross_attention=configs,
        alignment_loss=AlignmentLossConfig(latency=0.1, monotonic_penalty=0.1),
    )
    assert decoder.alignment_loss is not None
    assert decoder.alignment_loss.weights_of == [1, 3]
    assert decoder.stopping_heads == {0: 2, 2: 2}
    assert monotonic_decoder(loss=ALL).alignment_loss is not None
