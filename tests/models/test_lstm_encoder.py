"""The LSTM encoder, over features and over text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.lstm_encoder import LSTMEncoder
from s2s.nn.embedding import TokenFront
from s2s.nn.subsampling import ConvolutionSubsampling

PYRAMIDS = [(), (2,), (2, 2), (1, 3), (3, 1)]


def encoder(front: nn.Module, **options: Any) -> LSTMEncoder:
    torch.manual_seed(0)
    return LSTMEncoder(front, 16, 3, dropout=0.5, **options).double().eval()


def sources(lengths: list[int], text: bool) -> list[Tensor]:
    generators = [torch.Generator().manual_seed(i) for i in range(len(lengths))]
    if text:
        return [torch.randint(9, (n,), generator=g) for n, g in zip(lengths, generators, strict=True)]
    return [torch.randn(n, 5, generator=g).double() for n, g in zip(lengths, generators, strict=True)]


@pytest.mark.parametrize("text", [True, False])
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    more=st.integers(0, 7),
    pyramid=st.sampled_from(PYRAMIDS),
    hidden_dim=st.sampled_from([0, 5]),
)
@settings(max_examples=15)
def test_an_utterance_gives_the_same_states_alone_and_padded(
    text: bool, lengths: list[int], more: int, pyramid: tuple[int, ...], hidden_dim: int
) -> None:
    front = TokenFront(9, 16) if text else ConvolutionSubsampling(5, 16, 4, factor=2)
    model = encoder(front, pyramid=pyramid, hidden_dim=hidden_dim)
    alone = sources(lengths, text)
    shape = (len(lengths), max(lengths) + more)
    batch = torch.full(shape, 7) if text else torch.full((*shape, 5), float("nan")).double()
    for row, source in zip(batch, alone, strict=True):
        row[: len(source)] = source
    together = model(batch, torch.tensor(lengths))
    assert torch.equal(together.lengths, model.output_lengths(torch.tensor(lengths)))
    for states, length, source in zip(together.states, together.lengths.tolist(), alone, strict=True):
        memory = model(source.unsqueeze(0), torch.tensor([len(source)]))
        assert memory.states.shape == (1, length, 16)
        torch.testing.assert_close(states[:length], memory.states[0])


def test_an_encoder_is_its_front_its_layers_and_what_stacks_frames_between_them() -> None:
    model = encoder(TokenFront(9, 16), pyramid=[2], hidden_dim=5)
    tokens = torch.tensor([[4, 8, 1, 0, 3]])
    x = model.layers[0](model.front(tokens, None)[0], torch.tensor([5])) @ model.projections[0].weight.T
    x = x + model.projections[0].bias
    pairs = [torch.cat((x[0, 0], x[0, 1])), torch.cat((x[0, 2], x[0, 3])), torch.cat((x[0, 4], torch.zeros(16)))]
    x = model.projections[1](model.layers[1](torch.stack(pairs)[None], torch.tensor([3])))
    x = model.projections[2](model.layers[2](x, torch.tensor([3])))
    torch.testing.assert_close(model(tokens, torch.tensor([5])).states, x)


@pytest.mark.parametrize("pyramid", PYRAMIDS)
def test_frames_are_counted_through_front_and_pyramid(pyramid: tuple[int, ...]) -> None:
    model = encoder(ConvolutionSubsampling(5, 16, 4, factor=2), pyramid=pyramid)
    reduction = 1
    for size in pyramid:
        reduction *= size
    assert model.subsampling_factor == 2 * reduction
    for length in range(1, 40):
        memory = model(torch.zeros(1, length, 5).double(), torch.tensor([length]))
        assert memory.states.size(1) == memory.lengths == -(-max(1, (length + 1) // 2 - 1) // reduction)


def test_padding_of_nan_leaves_gradients_as_they_are() -> None:
    def gradients(padding: float, more: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = encoder(ConvolutionSubsampling(5, 16, factor=1), pyramid=[2])
        source = torch.full((2, 9 + more, 5), padding).double()
        for b, own in enumerate(sources([9, 4], text=False)):
            source[b, : len(own)] = own
        memory = model(source, torch.tensor([9, 4]))
        sum((memory.states[b, :n] ** 2).sum() for b, n in enumerate(memory.lengths)).backward()  # type: ignore[union-attr]
        return [p.grad for p in model.parameters() if p.grad is not None]

    torch.testing.assert_close(gradients(float("nan"), 3), gradients(0.0, 0))


def test_dropout_is_between_layers_only() -> None:
    model = encoder(TokenFront(9, 16)).train()
    seen: list[Tensor] = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    found = model(torch.tensor([[4, 8, 1, 5]]), torch.tensor([4])).states
    assert [bool((x == 0).any()) for x in seen] == [False, True, True]
    assert not (found == 0).any()


FRONT = {"_target_": "s2s.nn.embedding.TokenFront", "vocab_size": 9, "model_dim": 16}
CONFIG = {"_target_": "s2s.models.lstm_encoder.LSTMEncoder", "front": FRONT, "model_dim": 16, "num_layers": 3}


def test_an_encoder_is_built_from_a_config() -> None:
    model = build({**CONFIG, "pyramid": [2, 2], "hidden_dim": 12})
    assert model.subsampling_factor == 4
    assert [projection.in_features for projection in model.projections] == [24] * 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pyramid": [2, 2, 2]}, r"pyramid=\[2, 2, 2\]: has no place between 3 layers; expected at most 2"),
        ({"pyramid": [0]}, r"pyramid=\[0\]: expected a list of numbers of frames, such as \[2, 2\]"),
        ({"pyramid": "2,2"}, r"pyramid=2,2: expected a list"),
        ({"pyramid": 2}, r"pyramid=2: expected a list"),
        ({"hidden_dim": -1}, r"hidden_dim=-1: expected the size of each direction"),
        ({"model_dim": 15}, r"hidden_dim=0: expected the size .* \(here 15\)"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build({**CONFIG, **options})
