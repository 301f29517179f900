"""A search from given prefixes against one under a `PrefixConstraint`, and against enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model
from toy_whisper import BEGIN, NO_TIMES, PREVIOUS, SOT, TIMES, toy_features, toy_whisper

from s2s.decoding.beam import Beam
from s2s.decoding.constraints import PrefixConstraint
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.limits import Limits
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.prefix import read_prefix
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.repetition import NgramBlocking
from s2s.decoding.scorers import DecoderScorer, LengthBonus, Scorer
from s2s.decoding.whisper import WhisperScorer
from s2s.errors import UserError
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.lstm_decoder import LSTMDecoder
from s2s.models.memory import Decoder
from s2s.models.prompted_decoder import PromptedDecoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.config import AttentionConfig

V = 7
KINDS = ("transformer", "temporal latent", "relative", "lstm", "prompted", "prompted temporal latent")


def decoder(kind: str, seed: int = 0) -> Decoder[Any]:
    torch.manual_seed(seed)
    if kind == "lstm":
        return LSTMDecoder(V, 16, 16, 2, 2).double().eval()
    own: dict[str, Any] = {"positions": "relative"} if kind == "relative" else {}
    if kind.endswith("temporal latent"):
        own = {"self_attention": AttentionConfig(projection="temporal_latent", latent_stride=3)}
    found = TransformerDecoder(V, 16, 16, 2, 2, 32, **own)
    with torch.no_grad():
        found.out.weight *= 3  # type: ignore[union-attr,operator]
    plain = found.double().eval()
    return PromptedDecoder(plain, [3]).eval() if kind.startswith("prompted") else plain


def language_model() -> TransformerLanguageModel:
    torch.manual_seed(5)
    return TransformerLanguageModel(V, 16, 1, 2, 16).double().eval()


def same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-9)
        assert one.scores == pytest.approx({n: s for n, s in other.scores.items() if n != "prefix"}, abs=1e-9)


PREFIXES = st.lists(st.lists(st.sampled_from([1, 4, 5, 6]), max_size=5), min_size=1, max_size=3)


@given(
    prefixes=PREFIXES,
    kind=st.sampled_from(KINDS),
    beam_size=st.integers(1, 4),
    batch_size=st.sampled_from([None, 1, 2]),
    options=st.sampled_from([{}, {"normalisation": Normalisation(length_power=1.0)}, {"end_detection": "patience"}]),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_a_search_goes_on_from_prefixes_as_under_a_constraint(
    prefixes: list[list[int]],
    kind: str,
    beam_size: int,
    batch_size: int | None,
    options: dict[str, Any],
    seed: int,
) -> None:
    ctc = toy_model(V, seed).ctc
    scorers: dict[str, Any] = {
        "attention": (DecoderScorer(decoder(kind, seed)), 0.6),
        "ctc": (CTCPrefixScorer(ctc, BOS, EOS), 0.4),
        "lm": (DecoderScorer(language_model()), 0.2),
        "length": (LengthBonus(V, EOS), 0.1),
    }

    def search(more: dict[str, Any], **own: Any) -> LabelSearch:
        return LabelSearch(
            {**scorers, **more}, Beam(beam_size), V, BOS, EOS, (BLANK, BOS), nbest=beam_size, **options, **own
        )

    memory = toy_memory([5 + (seed + 3 * b) % 5 for b in range(len(prefixes))], seed)
    found = search({}, batch_size=batch_size)(memory, prefixes)
    for b, prefix in enumerate(prefixes):
        constraint = {"prefix": (PrefixConstraint([prefix], V, EOS), 1.0)}
        [expected] = search(constraint)(memory.rows(b, b + 1))
        same(found[b], expected)
        assert all(h.tokens[: len(prefix)] == prefix for h in found[b])


@given(prefix=st.lists(st.sampled_from([1, 4, 5]), max_size=3), seed=st.integers(0, 99))
@settings(max_examples=6)
@torch.no_grad()
def test_a_wide_search_finds_the_best_of_all_texts_that_begin_so(prefix: list[int], seed: int) -> None:
    model, memory = toy_model(6, seed), toy_memory([5], seed)
    scores = {}
    for length in range(4):
        for rest in itertools.product([1, 4, 5], repeat=length):
            tokens = [*prefix, *rest]
            log_probs = model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0]
            labels = torch.tensor([*tokens, EOS])
            scores[tuple(tokens)] = float(log_probs.gather(1, labels.unsqueeze(1)).sum())
    search = LabelSearch(
        {"attention": (DecoderScorer(model.decoder), 1.0)},
        Beam(40),
        6,
        BOS,
        EOS,
        (BLANK, BOS),
        nbest=5,
        limits=Limits(max_length_ratio=9.0, max_length=max(1, len(prefix) + 3)),
    )
    [found] = search(memory, [prefix])
    best = sorted(scores, key=lambda tokens: -scores[tokens])[:5]
    assert [tuple(h.tokens) for h in found] == best
    assert [h.score for h in found] == pytest.approx([scores[tokens] for tokens in best], abs=1e-9)


def test_a_prefix_is_read_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("prompt", "step"):
        own = getattr(TransformerDecoder, name)

        def counted(*given: Any, name: str = name, own: Any = own) -> Any:
            calls.append(name)
            return own(*given)

        monkeypatch.setattr(TransformerDecoder, name, counted)
    search = LabelSearch({"attention": (DecoderScorer(decoder("transformer")), 1.0)}, Beam(2), V, BOS, EOS)
    prefix = [4, 5, 6, 4, 5, 6, 4]
    [[best]] = search(toy_memory([9]), [prefix])
    assert best.tokens[:7] == prefix
    assert calls[0] == "prompt"
    assert set(calls[1:]) == {"step"}
    assert len(calls) <= 1 + (9 - 7) + 1


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    beam_size=st.integers(1, 3),
    stamped=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
@torch.no_grad()
def test_whisper_goes_on_from_prefixes_as_under_a_constraint(
    lengths: list[int], beam_size: int, stamped: bool, seed: int
) -> None:
    model = toy_whisper(6, seed=seed)
    prompts = [[PREVIOUS, 1, 3, SOT], [SOT], [PREVIOUS, 2, SOT]][: len(lengths)]
    if not stamped:
        prompts = [[*prompt, NO_TIMES] for prompt in prompts]
    sizes = [4 + (seed + 3 * b) % 9 for b in range(len(lengths))]
    memory = model.decoder.prepared(model.encode(*toy_features(sizes, seed)))
    options: dict[str, Any] = {
        "limits": Limits(9.0, max_length=8),
        "normalisation": Normalisation(length_power=1.0),
        "nbest": beam_size,
    }
    scorers = {"attention": (WhisperScorer(model, TIMES), 1.0)}

    def search(more: dict[str, Any]) -> LabelSearch:
        return LabelSearch({**scorers, **more}, Beam(beam_size), BEGIN + 7, SOT, model.eos_id, **options)

    whole = search({})(PromptedMemory.of(memory, prompts))
    prefixes = [hypotheses[-1].tokens[:length] for hypotheses, length in zip(whole, lengths, strict=True)]
    found = search({})(PromptedMemory.of(memory, prompts), prefixes)
    for b, prefix in enumerate(prefixes):
        constraint = {"prefix": (PrefixConstraint([prefix], BEGIN + 7, model.eos_id), 1.0)}
        [expected] = search(constraint)(PromptedMemory.of(memory.rows(b, b + 1), [prompts[b]]))
        same(found[b], expected)


class TokenByToken:
    """A scorer that cannot read at once."""

    max_gain = 0.0

    def __init__(self, scorer: Any) -> None:
        self.start, self.score, self.select, self.join = scorer.start, scorer.score, scorer.select, scorer.join


@pytest.mark.parametrize("kind", [*KINDS, "whisper"])
@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=3).filter(any), seed=st.integers(0, 99))
@settings(max_examples=3)
@torch.no_grad()
def test_at_once_a_scorer_reads_what_it_reads_token_by_token(kind: str, lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    tokens = torch.randint(1, 4, (len(lengths), 1 + max(lengths)))
    tokens[:, 0] = BOS
    scorer: Scorer = DecoderScorer(decoder(kind, seed))
    memory = toy_memory([3] * len(lengths))
    if kind == "whisper":
        model = toy_whisper(6, seed=seed)
        scorer = WhisperScorer(model, TIMES)
        heard = model.encode(*toy_features([5 + b for b in range(len(lengths))], seed))
        memory = PromptedMemory.of(heard, [[SOT], [PREVIOUS, 1, SOT, NO_TIMES], [SOT, NO_TIMES]][: len(lengths)])
    one, other, counts = scorer.start(memory, 2), scorer.start(memory, 2), torch.tensor(lengths)
    found = read_prefix(scorer, tokens, counts, one, 2)
    expected = read_prefix(TokenByToken(scorer), tokens, counts, other, 2)
    torch.testing.assert_close(found, expected)
    last = tokens.gather(1, counts.unsqueeze(1)).squeeze(1).repeat_interleave(2)
    for _ in range(3):
        torch.testing.assert_close(scorer.score(last, one), scorer.score(last, other))
        last = torch.full_like(last, 1)


def test_at_its_limit_a_prefix_can_only_end() -> None:
    model, memory = toy_model(V), toy_memory([3, 9])
    search = LabelSearch({"attention": (DecoderScorer(model.decoder), 1.0)}, Beam(3), V, BOS, EOS, (BLANK, BOS))
    long = [4, 5, 6, 4, 5]
    found = search(memory, [long, long])
    assert found[0][0].tokens == long  # of 3 tokens at most
    assert math.isfinite(found[0][0].score)
    with_room = search(memory, [[4, 5, 6], []])
    assert with_room[0][0].tokens == [4, 5, 6]


def test_what_a_constraint_forbids_is_not_a_prefix() -> None:
    model, memory = toy_model(V), toy_memory([9])
    scorers: dict[str, Any] = {
        "attention": (DecoderScorer(model.decoder), 1.0),
        "no_repeat_ngram": (NgramBlocking(2, V), 1.0),
    }
    search = LabelSearch(scorers, Beam(3), V, BOS, EOS, (BLANK, BOS))
    with pytest.raises(UserError, match=r"no hypothesis within the limits is allowed"):
        search(memory, [[4, 5, 4, 5]])
    tokens = search(memory, [[4, 5]])[0][0].tokens
    pairs = list(itertools.pairwise(tokens))
    assert tokens[:2] == [4, 5]
    assert len(pairs) == len(set(pairs))


def test_scores_that_are_no_numbers_are_reported() -> None:
    model, memory = toy_model(V), toy_memory([9])
    memory.states[:] = math.nan
    search = LabelSearch({"attention": (DecoderScorer(model.decoder), 1.0)}, Beam(3), V, BOS, EOS, (BLANK, BOS))
    with pytest.raises(UserError, match=r"utterance 1 of the batch: the model's output is not a number"):
        search(memory, [[4, 5]])


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        ([[4]], r"1 prefixes for 2 utterances: give one for each"),
        ([[4], [EOS]], r"prefix 2 has token 3: expected ids from 0 to 6 but eos"),
        ([[V], []], r"prefix 1 has token 7"),
    ],
)
def test_prefixes_that_are_none_are_refused(prefixes: list[list[int]], message: str) -> None:
    model, memory = toy_model(V), toy_memory([3, 3])
    search = LabelSearch({"attention": (DecoderScorer(model.decoder), 1.0)}, Beam(3), V, BOS, EOS)
    with pytest.raises(UserError, match=message):
        search(memory, prefixes)


def test_a_coverage_penalty_has_no_prefix() -> None:
    model, memory = toy_model(V), toy_memory([3])
    scorers = {"attention": (DecoderScorer(model.decoder, need_attention=True), 1.0)}
    search = LabelSearch(scorers, Beam(3), V, BOS, EOS, normalisation=Normalisation(coverage_beta=0.2))
    assert search(memory)
    with pytest.raises(UserError, match=r"coverage_beta"):
        search(memory, [[4]])
