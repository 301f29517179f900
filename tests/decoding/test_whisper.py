"""Whisper's rules against a plain account of them, a hypothesis at a time, and its search against enumeration."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_whisper import BEGIN, EOS, NO_TIMES, PREVIOUS, SOT, TEXTS, TIMES, toy_features, toy_whisper

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.limits import Limits
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.whisper import TimestampTokens, WhisperScorer
from s2s.models.memory import Memory
from s2s.models.whisper import Whisper

FRAMES = 6
VOCAB = BEGIN + FRAMES + 1
STAMPED, PLAIN = [SOT], [SOT, NO_TIMES]


def total(values: Sequence[float]) -> float:
    """log of the sum of exponentials"""
    best = max(values, default=-math.inf)
    return best if best == -math.inf else best + math.log(sum(math.exp(value - best) for value in values))


def by_the_rules(
    model: Whisper, log_probs: list[float], prompt: list[int], past: list[int], last_frame: int, times: TimestampTokens
) -> list[float]:
    """log P of the next token after `past`, tokens without the prompt, of a window that ends with `last_frame`."""
    begin = times.begin
    allowed = set(range(len(log_probs))) - set(model.suppress_ids) - {times.no_timestamps_id}
    if not past:
        allowed -= set(model.suppress_begin_ids)
    texts, stamps = {i for i in allowed if i < begin}, {i for i in allowed if i >= begin}
    if prompt[-1] == times.no_timestamps_id:
        stamps = set()
    else:
        stamps = {i for i in stamps if i - begin <= last_frame}
        said = [token for token in past if token >= begin]
        if not past:  # a time comes first, and an early one
            texts, stamps = set(), {i for i in stamps if i - begin <= times.max_initial}
        elif past[-1] < begin:  # text goes on, or a later time ends it
            stamps = {i for i in stamps if not said or i > said[-1]}
        elif len(past) == 1 or past[-2] >= begin:  # a stretch has its beginning: now text
            stamps = set()
        else:  # a stretch has its end: the next one begins, at once or later, or the window ends
            texts, stamps = texts & {model.eos_id}, {i for i in stamps if i >= said[-1]}
        if total([log_probs[i] for i in stamps]) > max((log_probs[i] for i in texts), default=-math.inf):
            texts = set()
    whole = total([log_probs[i] for i in texts | stamps])
    return [log_probs[i] - whole if i in texts | stamps else -math.inf for i in range(len(log_probs))]


def expected(
    model: Whisper, memory: Memory, prompt: list[int], past: list[int], last_frame: int, times: TimestampTokens = TIMES
) -> list[float]:
    log_probs = model.decoder(memory, torch.tensor([[*prompt, *past]]))[0, -1].tolist()
    return by_the_rules(model, log_probs, prompt, past, last_frame, times)


PROMPTS = st.lists(
    st.sampled_from([STAMPED, PLAIN, [PREVIOUS, 1, 3, SOT], [PREVIOUS, 0, 2, 2, 1, SOT, NO_TIMES]]),
    min_size=1,
    max_size=4,
)


@given(
    prompts=PROMPTS,
    beam_size=st.integers(1, 3),
    steps=st.integers(1, 10),
    times_lead=st.floats(-3, 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=25)
@torch.no_grad()
def test_the_next_token_is_as_the_rules_say_whatever_came_before(
    prompts: list[list[int]], beam_size: int, steps: int, times_lead: float, seed: int
) -> None:
    model, chance = toy_whisper(FRAMES, seed=seed % 7), random.Random(seed)
    model.decoder.out_bias[BEGIN:] += times_lead  # type: ignore[index]
    memories = [model.encode(*toy_features([chance.randint(1, 2 * FRAMES)], seed + b)) for b in range(len(prompts))]
    if seed % 2:
        memories = [model.decoder.prepared(memory) for memory in memories]
    scorer = WhisperScorer(model, TIMES)
    joining = (len(prompts) + 1) // 2  # the first of those that join later, each alone
    first = PromptedMemory.of(
        Memory.joined(memories[:joining]),
        prompts[:joining],
    )
    state = scorer.start(first, beam_size)
    present, waiting = list(range(joining)), list(range(joining, len(prompts)))
    past: list[list[int] | None] = [None] * (joining * beam_size)  # None: not even the prompt is read to its end
    likely: list[list[float]] = [[]] * len(past)
    for _ in range(steps):
        if waiting and chance.random() < 0.3:
            present.append(waiting.pop(0))
            joined = PromptedMemory.of(memories[present[-1]], [prompts[present[-1]]])
            state = scorer.join(state, scorer.start(joined, beam_size))
            past += [None] * beam_size
            likely += [[]] * beam_size
        tokens = []
        for own, log_probs in zip(past, likely, strict=True):
            possible = [i for i, value in enumerate(log_probs) if value > -math.inf and i != EOS]
            if chance.random() < 0.2:
                tokens.append(-1)
            elif own is None:
                tokens.append(SOT)  # the engine's bos, whatever the prompt
            elif possible and chance.random() < 0.8:
                tokens.append(chance.choice(possible))
            else:
                tokens.append(chance.choice([*range(TEXTS), *range(BEGIN, VOCAB)]))
        found = scorer.score(torch.tensor(tokens), state)
        assert not found.isnan().any()
        for n, token in enumerate(tokens):
            b = present[n // beam_size]
            if token >= 0:
                past[n] = [] if (own := past[n]) is None else [*own, token]
                likely[n] = expected(model, memories[b], prompts[b], past[n] or [], int(memories[b].frame_counts.sum()))
                assert found[n].tolist() == pytest.approx(likely[n], abs=1e-9)
                assert found[n].exp().sum().item() == pytest.approx(1.0)
        staying = [b for b in range(len(present)) if chance.random() < 0.9] or [0]
        parents = [b * beam_size + chance.randrange(beam_size) for b in staying for _ in range(beam_size)]
        state = scorer.select(
            state, torch.tensor(parents), torch.tensor(staying) if len(staying) < len(present) else None
        )
        present, past, likely = [present[b] for b in staying], [past[p] for p in parents], [likely[p] for p in parents]


@pytest.mark.parametrize("max_initial", [0, 2, 50])
@torch.no_grad()
def test_a_stamped_text_begins_with_an_early_time(max_initial: int) -> None:
    model = toy_whisper(FRAMES)
    memory = PromptedMemory.of(model.encode(*toy_features([2 * FRAMES, 7])), [STAMPED, PLAIN])
    scorer = WhisperScorer(model, TimestampTokens(BEGIN, NO_TIMES, max_initial))
    found = scorer.score(torch.tensor([SOT, SOT]), scorer.start(memory, 1))
    possible = [row.isfinite().nonzero().flatten().tolist() for row in found]
    assert possible[0] == list(range(BEGIN, BEGIN + min(max_initial, FRAMES) + 1))
    assert possible[1] == [1, 2, 3]  # of text; neither the first nor eos may begin


@torch.no_grad()
def test_no_time_is_later_than_the_end_of_the_window() -> None:
    model = toy_whisper(FRAMES)
    model.decoder.out_bias[BEGIN + 3] = 9.0  # type: ignore[index]  # just past the end
    memory = PromptedMemory.of(model.encode(*toy_features([4])), [STAMPED])
    scorer = WhisperScorer(model, TIMES)
    state = scorer.start(memory, 1)
    for token in (SOT, BEGIN, 1):
        found = scorer.score(torch.tensor([token]), state)[0]
    assert found[BEGIN : BEGIN + 3].isfinite().tolist() == [False, True, True]
    assert not found[BEGIN + 3 :].isfinite().any()


@pytest.mark.parametrize(("share", "forced"), [(0.1, False), (0.19, False), (0.21, True), (0.5, True)])
@torch.no_grad()
def test_a_time_is_forced_where_all_together_are_more_probable_than_any_token_of_text(
    share: float, forced: bool
) -> None:
    model = toy_whisper(FRAMES)
    model.decoder.embedding.weight[:] = 0.0  # the biases are all there is
    log_probs = torch.full((VOCAB,), -math.inf).double()
    log_probs[:4] = torch.tensor([0.2, 0.1, 0.15, 0.05]).log()
    log_probs[BEGIN:] = math.log(share / FRAMES)  # but the first is past
    model.decoder.out_bias[:] = log_probs  # type: ignore[index]
    memory = PromptedMemory.of(model.encode(*toy_features([2 * FRAMES])), [STAMPED])
    scorer = WhisperScorer(model, TIMES)
    state = scorer.start(memory, 1)
    for token in (SOT, BEGIN, 1):
        found = scorer.score(torch.tensor([token]), state)[0].exp()
    whole = share if forced else share + 0.5
    assert found[0].item() == pytest.approx(0.0 if forced else 0.2 / whole)
    assert found[BEGIN:].tolist() == pytest.approx([0.0, *[share / FRAMES / whole] * FRAMES])


@torch.no_grad()
def test_a_row_that_stays_as_it_was_knows_its_past() -> None:
    model = toy_whisper(FRAMES)
    memory = PromptedMemory.of(model.encode(*toy_features([2 * FRAMES])), [STAMPED])
    scorer = WhisperScorer(model, TIMES)
    state, other = scorer.start(memory, 1), scorer.start(memory, 1)
    for token in (SOT, BEGIN, 1, 2, BEGIN + 2, BEGIN + 2, 3, BEGIN + 4, BEGIN + 5):
        found = scorer.score(torch.tensor([token]), state)
        for _ in range(token % 3):
            scorer.score(torch.tensor([-1]), other)
        torch.testing.assert_close(scorer.score(torch.tensor([token]), other), found)


@torch.no_grad()
def test_a_model_without_times_writes_text() -> None:
    model = toy_whisper(FRAMES)
    memory = PromptedMemory.of(model.encode(*toy_features([4])), [PLAIN])
    scorer = WhisperScorer(model, TimestampTokens(VOCAB, NO_TIMES))
    found = scorer.score(torch.tensor([SOT]), scorer.start(memory, 1))
    assert found.exp().sum().item() == pytest.approx(1.0)


def search(
    model: Whisper, beam_size: int, max_length: int, nbest: int, power: float = 1.0, **options: int
) -> LabelSearch:
    begin = model.eos_id + 4
    return LabelSearch(
        {"attention": (WhisperScorer(model, TimestampTokens(begin, begin - 1, max_initial=1)), 1.0)},
        Beam(beam_size),
        model.vocab_size,
        model.bos_id,
        model.eos_id,
        nbest=nbest,
        limits=Limits(max_length_ratio=9.0, max_length=max_length),
        normalisation=Normalisation(length_power=power),
        **options,  # type: ignore[arg-type]
    )


def all_texts(
    model: Whisper,
    memory: Memory,
    prompt: list[int],
    max_length: int,
    times: TimestampTokens,
    past: tuple[int, ...] = (),
) -> dict[tuple[int, ...], float]:
    """log P of every text that goes on from `past`, its end counted."""
    log_probs = expected(model, memory, prompt, list(past), int(memory.frame_counts.sum()), times)
    found = {past: log_probs[model.eos_id]} if log_probs[model.eos_id] > -math.inf else {}
    for token, value in enumerate(log_probs):
        if len(past) < max_length and token != model.eos_id and value > -math.inf:
            rest = all_texts(model, memory, prompt, max_length, times, (*past, token))
            found |= {tokens: value + log_prob for tokens, log_prob in rest.items()}
    return found


@given(seed=st.integers(0, 99), power=st.sampled_from([0.0, 1.0]), stamped=st.booleans())
@settings(max_examples=6)
@torch.no_grad()
def test_a_wide_search_finds_the_best_of_all_texts(seed: int, power: float, stamped: bool) -> None:
    model = toy_whisper(2, num_texts=2, seed=seed)  # 2 tokens of text, 3 times
    begin = model.eos_id + 4
    times = TimestampTokens(begin, begin - 1, max_initial=1)
    prompts = [[model.bos_id], [model.eos_id + 2, 1, 0, model.bos_id]]
    if not stamped:
        prompts = [[*prompt, begin - 1] for prompt in prompts]
    memory = model.decoder.prepared(model.encode(*toy_features([1, 4], seed)))
    found = search(model, 60, 4, nbest=8, power=power)(PromptedMemory.of(memory, prompts))
    for b, prompt in enumerate(prompts):
        sums = all_texts(model, memory.rows(b, b + 1), prompt, 4, times)
        scores = {tokens: log_prob / (len(tokens) + 1) ** power for tokens, log_prob in sums.items()}
        best = sorted(scores, key=lambda tokens: -scores[tokens])[:8]
        assert len(best) == 8
        assert [tuple(h.tokens) for h in found[b]] == best
        assert [h.score for h in found[b]] == pytest.approx([scores[tokens] for tokens in best], abs=1e-9)


def same(found: list[Hypothesis], other: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in other]
    assert [h.score for h in found] == pytest.approx([h.score for h in other], abs=1e-9)


@given(prompts=PROMPTS, batch_size=st.integers(1, 4), beam_size=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=10)
@torch.no_grad()
def test_a_window_is_written_down_the_same_alone_and_in_any_batch(
    prompts: list[list[int]], batch_size: int, beam_size: int, seed: int
) -> None:
    model, chance = toy_whisper(FRAMES, seed=seed), random.Random(seed)
    lengths = [chance.randint(1, 2 * FRAMES) for _ in prompts]
    together = model.decoder.prepared(model.encode(*toy_features(lengths, seed, more=2 * FRAMES - max(lengths))))
    options = {"end_detection": "patience", "batch_size": batch_size}
    found = search(model, beam_size, 8, beam_size, **options)(PromptedMemory.of(together, prompts))  # type: ignore[arg-type]
    for b, (length, prompt) in enumerate(zip(lengths, prompts, strict=True)):
        alone = model.decoder.prepared(model.encode(*toy_features([length], seed + b)))
        other = search(model, beam_size, 8, beam_size, end_detection="patience")(PromptedMemory.of(alone, [prompt]))  # type: ignore[arg-type]
        same(found[b], other[0])
