"""What is asked of a decoder is read before bos, the same however it is run, and layers of languages follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BOS, EOS, toy_memory, toy_source

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.rescoring import Rescorer, RescoringSearch
from s2s.decoding.scorers import DecoderScorer
from s2s.errors import UserError
from s2s.models.conformer import ConformerEncoder
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.lstm_decoder import LSTMDecoder
from s2s.models.memory import Memory
from s2s.models.prompted_encoding import check_prompts, encode_asked
from s2s.models.prompts import Prompts
from s2s.models.streaming_encoder import StreamingEncoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.embedding import TokenFront
from s2s.nn.language_feed_forward import LanguageLayersConfig
from s2s.nn.subsampling import ConvolutionSubsampling
from s2s.tokenizers import JointTokenizer, train_tokenizer
from s2s.tokenizers.prompts import Prompt, PromptTokens

TOKENS = PromptTokens(["en", "de", "fr"], ["transcribe", "translate"], 6)
V = 6 + len(TOKENS.pieces)
PROMPTS = st.builds(
    Prompt, st.sampled_from(TOKENS.languages), st.sampled_from(TOKENS.languages), punctuation=st.booleans()
)
ASKED = st.lists(st.tuples(st.integers(1, 7), PROMPTS), min_size=1, max_size=4)
LAYERS = LanguageLayersConfig(3, source=[2], target=[1])


def decoder(layers: LanguageLayersConfig | None = None) -> TransformerDecoder:
    torch.manual_seed(0)
    made = TransformerDecoder(V, 16, 16, 2, 2, 32, language_layers=layers)
    with torch.no_grad():
        made.out.weight *= 3  # type: ignore[union-attr,operator]
    return made.double().eval()


def asked_memory(asked: Sequence[tuple[int, Prompt]]) -> Memory:
    memory = toy_memory([length for length, _ in asked])
    return replace(memory, asked=Prompts.of(TOKENS, [prompt for _, prompt in asked]))


@given(asked=ASKED, size=st.integers(1, 4), rows=st.integers(1, 3))
@settings(max_examples=15)
@torch.no_grad()
def test_a_prompt_is_what_the_decoder_has_read(asked: list[tuple[int, Prompt]], size: int, rows: int) -> None:
    model, memory = decoder(), asked_memory(asked)
    tokens = torch.randint(6, (rows * len(asked), size))
    given_tokens = torch.tensor([TOKENS.encode(prompt) for _, prompt in asked]).repeat_interleave(rows, dim=0)
    plain, whole = replace(memory, asked=None), torch.cat((given_tokens, tokens), dim=1)
    expected = model(plain, whole)[:, TOKENS.size :]
    torch.testing.assert_close(model(memory, tokens), expected, rtol=0, atol=1e-12)
    looked = model.attention(plain, whole)[:, TOKENS.size :]
    torch.testing.assert_close(model.attention(memory, tokens), looked, rtol=0, atol=1e-12)
    state = model.start(memory, rows, need_attention=True)
    for i in range(size):
        found, state = model.step(tokens[:, i], state)
        torch.testing.assert_close(found, expected[:, i], rtol=0, atol=1e-12)


@given(asked=ASKED, size=st.integers(1, 4), rows=st.integers(1, 3))
@settings(max_examples=15)
@torch.no_grad()
def test_layers_of_languages_are_those_of_each_language_alone(
    asked: list[tuple[int, Prompt]], size: int, rows: int
) -> None:
    model, memory = decoder(LAYERS), asked_memory(asked)
    tokens = torch.randint(6, (rows * len(asked), size))
    together = model(memory, tokens)
    state = model.start(memory, rows)
    steps = []
    for i in range(size):
        found, state = model.step(tokens[:, i], state)
        steps.append(found)
    torch.testing.assert_close(torch.stack(steps, dim=1), together, rtol=0, atol=1e-12)
    plain = decoder()
    for b, (_, prompt) in enumerate(asked):
        numbers = TOKENS.numbers(prompt)
        weights = model.state_dict()
        for layer, side in ((1, 0), (0, 1)):  # a model of that language alone has its feed-forwards
            for name in [name for name in weights if name.startswith(f"layers.{layer}.feed_forward")]:
                tensor = weights.pop(name)
                if f".of_language.{numbers[side]}." in name:
                    weights[name.replace(f"of_language.{numbers[side]}.", "")] = tensor
        plain.load_state_dict(weights)
        own = slice(b * rows, (b + 1) * rows)
        torch.testing.assert_close(plain(memory.rows(b, b + 1), tokens[own]), together[own], rtol=0, atol=1e-12)


@given(asked=ASKED, batch_size=st.integers(1, 4), has_layers=st.booleans())
@settings(max_examples=10)
def test_utterances_that_come_and_go_are_searched_as_if_alone(
    asked: list[tuple[int, Prompt]], batch_size: int, has_layers: bool
) -> None:
    scorers = {"attention": (DecoderScorer(decoder(LAYERS if has_layers else None)), 1.0)}
    search = LabelSearch(scorers, Beam(3), V, BOS, EOS, (BOS,), nbest=2, batch_size=batch_size)
    memory = asked_memory(asked)
    together = search(memory)
    for b in range(len(asked)):
        (alone,) = search(Memory.joined([memory.rows(b, b + 1)]))
        assert [h.tokens for h in together[b]] == [h.tokens for h in alone]
        assert [h.score for h in together[b]] == pytest.approx([h.score for h in alone], abs=1e-9)


@torch.no_grad()
def test_the_prompt_decides_what_is_found_and_rescoring_reads_it_too() -> None:
    model, memory = decoder(), toy_memory([5, 5])
    same = replace(memory, states=memory.states[:1].expand(2, -1, -1), lengths=memory.lengths[:1].expand(2))
    both = replace(same, asked=Prompts.of(TOKENS, [Prompt("en", "de"), Prompt("en", "fr")]))
    search = LabelSearch({"attention": (DecoderScorer(model), 1.0)}, Beam(3), V, BOS, EOS, (BOS,))
    first, second = (found[0] for found in search(both))
    assert first.score != pytest.approx(second.score, abs=1e-3)
    again = RescoringSearch(search, {"again": Rescorer(model, 1.0)}, BOS, EOS, first_weight=0.0)(both)
    for found, (rescored, *_) in zip((first, second), again, strict=True):
        assert (rescored.tokens, rescored.score) == (found.tokens, pytest.approx(found.score, abs=1e-9))


def encoder(kind: str, layers: LanguageLayersConfig | None) -> StreamingEncoder:
    torch.manual_seed(0)
    made: StreamingEncoder
    if kind == "conformer":
        made = ConformerEncoder(ConvolutionSubsampling(8, 16, 4), 16, 2, 2, 32, 5, language_layers=layers)
    else:
        made = TransformerEncoder(TokenFront(9, 16), 16, 2, 2, 32, language_layers=layers)
    return made.double().eval()


@pytest.mark.parametrize("kind", ["conformer", "transformer"])
@given(asked=st.lists(PROMPTS, min_size=1, max_size=4))
@settings(max_examples=10)
@torch.no_grad()
def test_layers_of_an_encoder_are_those_of_each_language_alone(kind: str, asked: list[Prompt]) -> None:
    model, lengths = encoder(kind, LAYERS), [20 + 3 * b for b in range(len(asked))]
    source, sizes = toy_source(lengths)
    if kind == "transformer":
        source = source[..., 0].abs().mul(3).long().clamp(max=8)
    prompts = Prompts.of(TOKENS, asked)
    together = encode_asked(model, source, sizes, prompts)
    assert together.asked is prompts
    for b, length in enumerate(lengths):
        alone = encode_asked(model, source[b : b + 1, :length], sizes[b : b + 1], prompts.rows(b, b + 1))
        n = int(alone.lengths)
        torch.testing.assert_close(together.states[b, :n], alone.states[0], rtol=0, atol=1e-10)
    swapped = replace(asked[0], source=next(code for code in TOKENS.languages if code != asked[0].source))
    other = encode_asked(model, source[:1, : lengths[0]], sizes[:1], Prompts.of(TOKENS, [swapped]))
    assert not torch.allclose(other.states[0], together.states[0, : other.states.size(1)])


def test_a_training_sees_every_sentence_twice_with_its_own_prompt() -> None:
    torch.manual_seed(0)
    front = TokenFront(V, 16)
    encoder = TransformerEncoder(front, 16, 1, 2, 32, dropout=0.0)
    model = EncoderDecoder(V, encoder, TransformerDecoder(V, 16, 16, 1, 2, 32, dropout=0.0), consistency=1.0).double()
    source, target, sizes = torch.randint(4, 6, (2, 3)), torch.randint(4, 6, (2, 2)), torch.tensor([3, 2])
    asked = Prompts.of(TOKENS, [Prompt("en", "de"), Prompt("en", "fr")])
    with_consistency = model.train()(source, sizes, target, sizes - 1, asked)
    without = model.eval()(source, sizes, target, sizes - 1, asked)
    torch.testing.assert_close(with_consistency, without)  # without dropout both answers are one


def test_what_does_not_fit_is_named() -> None:
    tokenizer = JointTokenizer(train_tokenizer("char", ["ab"]), ["en", "de"])
    normalised = torch.nn.Module()
    normalised.decoder = LSTMDecoder(9, 16, 16, 1, 2)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"model\.decoder: a LSTMDecoder, which takes no prompts, .*<en>, <de>"):
        check_prompts(normalised, tokenizer)
    model = EncoderDecoder(V, encoder("transformer", LAYERS), decoder())
    with pytest.raises(UserError, match=r"num_languages=3: the tokenizer has 2 languages \(en, de\)"):
        check_prompts(model, tokenizer)
    with pytest.raises(UserError, match=r"num_languages=3: the tokenizer has no languages"):
        check_prompts(model, tokenizer.tokenizer)
    with pytest.raises(UserError, match=r"chooses layers by language; it hears whole utterances alone"):
        encoder("transformer", LAYERS).check_streaming()
