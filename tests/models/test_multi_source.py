"""Models of several sources: one memory, the same numbers every way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import BOS, EOS

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.scorers import DecoderScorer
from s2s.errors import UserError
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.memory import Memory
from s2s.models.multi_source import MultiSourceEncoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.attention.multi_source import COMBINATIONS, SourcesConfig
from s2s.nn.embedding import TokenFront
from s2s.nn.layer_fusion import SurfaceFusionConfig

Sizes = list[tuple[int, int]]
sizes_of_sources = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=3)


def model(combination: str, seed: int = 0, shared: bool = False, pre_norm: bool = True) -> EncoderDecoder:
    torch.manual_seed(seed)
    encoder = TransformerEncoder(TokenFront(9, 16), 16, 1, 2, 16, pre_norm=pre_norm)
    decoder = TransformerDecoder(9, 16, 16, 2, 2, 16, pre_norm=pre_norm, sources=SourcesConfig(2, combination))
    made = EncoderDecoder(9, MultiSourceEncoder(encoder, 2, shared), decoder, share_embedding=True)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)  # so that the encoders, which begin alike, differ
    return made.double().eval()


def sources(sizes: Sizes, seed: int = 0, padding: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens (B,2,S), with `padding` past each end, and lengths (B,2)."""
    tokens = torch.full((len(sizes), 2, max(map(max, sizes)) + padding), 5 if padding else 0)
    for b, own in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed + b)
        for n, size in enumerate(own):
            tokens[b, n, :size] = torch.randint(4, 9, (size,), generator=generator)
    return tokens, torch.tensor(sizes)


def by_itself(made: EncoderDecoder, tokens: Tensor, lengths: Tensor, b: int) -> list[Tensor]:
    """What the encoder of each source gives (T,D) for utterance b alone; nothing for no tokens."""
    encoders = made.encoder.encoders  # type: ignore[attr-defined]
    found = []
    for n, size in enumerate(lengths[b].tolist()):
        states = encoders[n % len(encoders)](tokens[b : b + 1, n, : max(size, 1)], torch.tensor([size])).states
        found.append(states[0, :size])
    return found


@pytest.mark.parametrize("shared", [False, True])
@given(sizes=sizes_of_sources, padding=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_a_memory_holds_the_frames_of_each_source_in_turn(shared: bool, sizes: Sizes, padding: int, seed: int) -> None:
    made = model("flat", seed, shared)
    tokens, lengths = sources(sizes, seed, padding)
    memory = made.encode(tokens, lengths)
    assert memory.sources is not None
    assert memory.lengths.tolist() == [sum(own) for own in sizes]
    assert made.encoder.output_lengths(lengths).tolist() == memory.lengths.tolist()
    for b, own in enumerate(sizes):
        torch.testing.assert_close(memory.states[b, : sum(own)], torch.cat(by_itself(made, tokens, lengths, b)))
        assert memory.sources[b, : sum(own)].tolist() == [0] * own[0] + [1] * own[1]
    joined = Memory.joined([memory.rows(0, 1), memory.rows(1, len(sizes))]) if len(sizes) > 1 else memory
    assert joined.sources is not None
    torch.testing.assert_close(joined.sources, memory.sources)


def plain_layer(layer: torch.nn.Module, x: Tensor, sources: list[Tensor], combination: str) -> Tensor:
    """A pre-norm layer of Libovický et al. 2018 for the tokens x (U,D), all written out but attention itself."""

    def attended(attention: torch.nn.Module, query: Tensor, frames: Tensor, causal: bool = False) -> Tensor:
        heads, found = attention.heads, []
        for u in range(len(query)):
            seen = frames[: u + 1] if causal else frames
            q, k, v = heads.query(query[u]), heads.key(seen), heads.value(seen)
            parts = []
            for h in range(2):
                own = slice(8 * h, 8 * h + 8)
                weights = (k[:, own] @ q[own] / 8**0.5).exp()
                parts.append((weights / weights.sum()) @ v[:, own] if len(seen) else torch.zeros_like(q[own]))
            found.append(heads.out(torch.cat(parts)))
        return torch.stack(found)

    y = layer.norm_self(x)
    x = x + attended(layer.self_attention, y, y, causal=True)
    over = layer.memory_attention
    if combination == "serial":
        for attention, norm, frames in zip(
            over.attentions, (layer.norm_memory, *layer.norm_sources), sources, strict=True
        ):
            x = x + attended(attention, norm(x), frames)
    else:
        y = layer.norm_memory(x)
        if combination == "flat":
            x = x + attended(over, y, torch.cat(sources))
        else:
            each = [attended(own, y, frames) for own, frames in zip(over.attentions, sources, strict=True)]
            if combination == "parallel":
                x = x + each[0] + each[1]
            else:
                contexts = torch.stack(each, dim=1)  # (U,2,D)
                rows = [attended(over.above, y[u : u + 1], contexts[u])[0] for u in range(len(y))]
                x = x + torch.stack(rows)
    return x + layer.feed_forward(layer.norm_feed_forward(x))


@pytest.mark.parametrize("combination", COMBINATIONS)
@given(sizes=sizes_of_sources, size=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_the_decoder_is_the_one_written_out(combination: str, sizes: Sizes, size: int, seed: int) -> None:
    made = model(combination, seed)
    decoder = made.decoder
    tokens, lengths = sources(sizes, seed)
    given_ = torch.randint(4, 9, (len(sizes), size), generator=torch.Generator().manual_seed(seed))
    found = decoder(made.encode(tokens, lengths), given_)
    for b in range(len(sizes)):
        x = decoder.embedding(given_[b]) * decoder.scale + decoder.positions.first(size, torch.device("cpu")).double()  # type: ignore[attr-defined]
        for layer in decoder.layers:  # type: ignore[attr-defined]
            x = plain_layer(layer, x, by_itself(made, tokens, lengths, b), combination)
        logits = decoder.out(decoder.norm(x))  # type: ignore[attr-defined]
        torch.testing.assert_close(found[b], logits.log_softmax(dim=-1))


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("pre_norm", [True, False])
@given(sizes=sizes_of_sources, size=st.integers(1, 5), padding=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=6)
def test_one_token_at_a_time_in_any_batch_gives_the_numbers_of_all_at_once_alone(
    combination: str, pre_norm: bool, sizes: Sizes, size: int, padding: int, seed: int
) -> None:
    made = model(combination, seed, pre_norm=pre_norm)
    tokens, lengths = sources(sizes, seed, padding)
    rows = torch.randint(4, 9, (2 * len(sizes), size), generator=torch.Generator().manual_seed(seed))
    state = made.decoder.start(made.encode(tokens, lengths), 2)
    steps = [made.decoder.step(token, state)[0] for token in rows.t()]
    for b, own in enumerate(sizes):
        alone = made.encode(tokens[b : b + 1, :, : max(own)], lengths[b : b + 1])
        for row in (2 * b, 2 * b + 1):
            expected = made.decoder(alone, rows[row : row + 1])[0]
            torch.testing.assert_close(torch.stack([step[row] for step in steps]), expected)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_utterances_that_come_and_go_in_a_search_are_found_as_alone(combination: str) -> None:
    made = model(combination, 3)
    sizes = [(4, 2), (1, 5), (0, 3), (5, 5), (2, 1)]
    tokens, lengths = sources(sizes)

    def search(memory: Memory, batch_size: int) -> list[tuple[list[int], float]]:
        scorers = {"attention": (DecoderScorer(made.decoder), 1.0)}
        found = LabelSearch(scorers, Beam(3), 9, BOS, EOS, (0, BOS), nbest=1, batch_size=batch_size)(memory)
        return [(hypotheses[0].tokens, hypotheses[0].score) for hypotheses in found]

    with torch.no_grad():
        together = search(made.encode(tokens, lengths), 2)
        for b, own in enumerate(sizes):
            ((text, score),) = search(made.encode(tokens[b : b + 1, :, : max(own)], lengths[b : b + 1]), 1)
            assert together[b][0] == text
            assert together[b][1] == pytest.approx(score, abs=1e-9)


def test_flat_with_the_same_source_twice_is_the_model_of_one_source() -> None:
    made = model("flat", shared=True)
    tokens = torch.tensor([[4, 5, 6]])
    twice = made.encode(torch.stack((tokens, tokens), dim=1), torch.tensor([[3, 3]]))
    once = made.encoder.encoders[0](tokens, torch.tensor([3]))  # type: ignore[attr-defined]
    text = torch.tensor([[BOS, 7, 8]])
    torch.testing.assert_close(made.decoder(twice, text), made.decoder(once, text))


def test_where_it_looked_sums_to_one_over_the_sources() -> None:
    for combination in COMBINATIONS:
        made = model(combination)
        memory = made.encode(*sources([(3, 2), (1, 4)]))
        weights = made.decoder.attention(memory, torch.tensor([[BOS, 4], [BOS, 5]]))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, dtype=torch.float64))
        assert float(weights[1, :, :1].sum()) > 0.0
        assert float(weights[1, :, 1:].sum()) > 0.0


def test_all_parameters_learn_and_the_front_is_one() -> None:
    for combination in COMBINATIONS:
        made = model(combination).train()
        loss = made(*sources([(3, 2), (1, 4)]), torch.tensor([[4, 5], [6, 0]]), torch.tensor([2, 1]))
        loss.backward()
        for name, parameter in made.named_parameters():
            assert parameter.grad is not None, name
        first, second = made.encoder.encoders  # type: ignore[attr-defined]
        assert first.front is second.front is made.encoder.front  # type: ignore[attr-defined]
        assert made.decoder.embedding is first.front.embedding  # type: ignore[attr-defined]


def test_what_does_not_fit_is_named() -> None:
    encoder = TransformerEncoder(TokenFront(9, 16), 16, 1, 2, 16)
    with pytest.raises(UserError, match=r"num_sources=1: expected at least 2"):
        MultiSourceEncoder(encoder, 1)
    with pytest.raises(UserError, match=r"encoder: Linear is none"):
        MultiSourceEncoder(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"the encoder reads 2 sources, the decoder attends to 1"):
        EncoderDecoder(9, MultiSourceEncoder(encoder), TransformerDecoder(9, 16, 16, 1, 2, 16))
    with pytest.raises(UserError, match=r"the model reads 2 sources at once, and was given 1"):
        model("flat").encode(torch.tensor([[4, 5]]), torch.tensor([2]))
    with pytest.raises(UserError, match=r"surface_fusion: is for a decoder of one source"):
        TransformerDecoder(9, 16, 16, 1, 2, 16, surface_fusion=SurfaceFusionConfig(), sources=SourcesConfig())
