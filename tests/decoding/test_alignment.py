"""Forced alignment against enumeration of every path, and words against the tokenizers' own."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s import optional
from s2s.decoding.alignment import Word, align, token_spans, word_times
from s2s.errors import UserError
from s2s.tokenizers import Tokenizer, train_tokenizer

BLANK = 0
TEXT = ["one two three", "two one", "three three two one", "oh no", "on to the end"]


def collapse(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != BLANK]


def emissions(lengths: list[int], seed: int, vocab_size: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    """(B,T,V); what is past an utterance's end is not a number."""
    log_probs = torch.full((len(lengths), max(lengths), vocab_size), float("nan"), dtype=dtype)
    for b, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + b)
        log_probs[b, :length] = (2 * torch.randn(length, vocab_size, generator=generator, dtype=dtype)).log_softmax(-1)
    return log_probs


def padded(targets: list[list[int]], padding: int = 9) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(target) for target in targets])
    tokens = torch.full((len(targets), int(lengths.max())), padding)
    for b, target in enumerate(targets):
        tokens[b, : len(target)] = torch.tensor(target, dtype=torch.long)
    return tokens, lengths


def frames_needed(target: list[int]) -> int:
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


@st.composite
def utterances(draw: st.DrawFn, max_frames: int = 6, vocab_size: int = 4) -> list[tuple[int, list[int]]]:
    """Some (frames, target): the target empty, as long as the frames allow, or between."""
    some = []
    for _ in range(draw(st.integers(1, 3))):
        target = draw(st.lists(st.integers(1, vocab_size - 1), max_size=max_frames))
        while frames_needed(target) > max_frames:
            target.pop()
        some.append((draw(st.integers(max(1, frames_needed(target)), max_frames)), target))
    return some


@given(given=utterances(), seed=st.integers(0, 10_000))
@example(given=[(5, [1, 1, 1]), (1, []), (6, [1, 2, 3, 1, 2, 3])], seed=0)
@settings(max_examples=15)
def test_the_alignment_is_the_best_of_all_paths(given: list[tuple[int, list[int]]], seed: int) -> None:
    lengths, targets = [length for length, _ in given], [target for _, target in given]
    log_probs = emissions(lengths, seed)
    found = align(log_probs, torch.tensor(lengths), *padded(targets))
    for b, (length, target) in enumerate(given):
        paths = [path for path in itertools.product(range(4), repeat=length) if collapse(path) == target]
        truth = {path: sum(log_probs[b, t, v].item() for t, v in enumerate(path)) for path in paths}
        best = max(truth, key=lambda path: truth[path])
        assert found.labels[b, :length].tolist() == list(best)
        assert found.scores[b].sum().item() == pytest.approx(truth[best], abs=1e-9)
        assert found.scores[b, :length].tolist() == [log_probs[b, t, v].item() for t, v in enumerate(best)]
        assert (found.labels[b, length:] == BLANK).all()
        assert (found.scores[b, length:] == 0).all()


@given(given=utterances(max_frames=30, vocab_size=6), seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_spans_and_confidences_are_those_of_each_tokens_frames(given: list[tuple[int, list[int]]], seed: int) -> None:
    lengths, targets = [length for length, _ in given], [target for _, target in given]
    log_probs = emissions(lengths, seed, 6)
    found = align(log_probs, torch.tensor(lengths), *padded(targets))
    for b, target in enumerate(targets):
        end = 0
        for u, token in enumerate(target):
            start, before, end = int(found.starts[b, u]), end, int(found.ends[b, u])
            assert before <= start < end
            assert (found.labels[b, start:end] == token).all()
            assert (found.labels[b, before:start] == BLANK).all()
            expected = log_probs[b, start:end, token].exp().mean().item()
            assert found.confidences[b, u].item() == pytest.approx(expected, abs=1e-12)
        assert (found.labels[b, end:] == BLANK).all()
        for padding in (found.starts, found.ends, found.confidences):
            assert (padding[b, len(target) :] == 0).all()
    spans = token_spans(log_probs, torch.tensor(lengths), targets)
    assert [[start for start, _ in spans[b]] for b in range(len(given))] == [
        found.starts[b, : len(target)].tolist() for b, target in enumerate(targets)
    ]
    assert [[end for _, end in spans[b]] for b in range(len(given))] == [
        found.ends[b, : len(target)].tolist() for b, target in enumerate(targets)
    ]


@given(given=utterances(max_frames=30, vocab_size=6), seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_an_utterance_aligns_the_same_alone_and_in_any_batch(given: list[tuple[int, list[int]]], seed: int) -> None:
    lengths, targets = [length for length, _ in given], [target for _, target in given]
    log_probs = emissions(lengths, seed, 6)
    together = align(log_probs, torch.tensor(lengths), *padded(targets))
    for b, (length, target) in enumerate(given):
        alone = align(log_probs[b : b + 1, :length], torch.tensor([length]), *padded([target]))
        assert alone.labels[0].tolist() == together.labels[b, :length].tolist()
        assert alone.scores[0].tolist() == together.scores[b, :length].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_alignment_is_that_of_torchaudio(dtype: torch.dtype) -> None:
    torchaudio, reason = optional.torchaudio()
    if torchaudio is None:
        pytest.skip(f"torchaudio does not load: {reason}")
    generator = torch.Generator().manual_seed(0)
    for seed in range(40):
        length = 20 + 3 * seed
        size = int(torch.randint(1, length // 2, (1,), generator=generator))
        target = torch.randint(1, 6, (size,), generator=generator)  # of 5 tokens: repeats are frequent
        log_probs = emissions([length], seed, 6, dtype)
        lengths, sizes = torch.tensor([length]), torch.tensor([size])
        found = align(log_probs, lengths, target.unsqueeze(0), sizes)
        labels, scores = torchaudio.functional.forced_align(log_probs, target.unsqueeze(0), lengths, sizes, BLANK)
        assert found.labels.tolist() == labels.tolist()
        assert found.scores.tolist() == scores.tolist()
        merged = torchaudio.functional.merge_tokens(labels[0], scores[0].exp())
        assert list(zip(found.starts[0].tolist(), found.ends[0].tolist(), strict=True)) == [
            (span.start, span.end) for span in merged
        ]
        assert found.confidences[0].tolist() == pytest.approx([span.score for span in merged], abs=1e-5)


def test_an_utterance_without_frames_has_an_empty_alignment() -> None:
    assert token_spans(emissions([3, 1], 0), torch.tensor([3, 0]), [[1], []])[1] == []
    assert token_spans(torch.zeros(1, 0, 4), torch.tensor([0]), [[]]) == [[]]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[1], [2, 2, 2]], r"utterance 2 of the batch: 3 tokens, 2 of them as the one before, need 5 frames or more"),
        ([[1, 2, 3, 1, 2], [1]], r"utterance 1 of the batch: 5 tokens, 0 of .* need 5 frames or more, there are 4"),
        ([[1], [2, 0]], r"utterance 2 of the batch: token 0 cannot be aligned: expected 0 to 3 without the blank, 0"),
        ([[1, 4], [2]], r"utterance 1 of the batch: token 4 cannot be aligned"),
    ],
)
def test_what_cannot_be_aligned_is_refused(targets: list[list[int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        token_spans(emissions([4, 4], 0), torch.tensor([4, 4]), targets)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_model_that_gives_no_number_or_no_path_is_reported(value: float) -> None:
    log_probs = emissions([4, 4], 0)
    log_probs[1, 2] = value
    with pytest.raises(UserError, match=r"utterance 2 of the batch: no alignment of its tokens has a finite score"):
        token_spans(log_probs, torch.tensor([4, 4]), [[1], [2, 3]])


@pytest.fixture(scope="module", params=["char", "unigram", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, TEXT, None if request.param == "char" else 18)


@given(data=st.data())
@settings(max_examples=25)
def test_words_are_those_of_the_decoded_text_in_order_and_within_their_pieces(
    tokenizer: Tokenizer, data: st.DataObject
) -> None:
    ids = data.draw(
        st.one_of(
            st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12),
            st.sampled_from(TEXT).map(tokenizer.encode),
        )
    )
    spans = [(3 * i, 3 * i + 2) for i in range(len(ids))]
    words = word_times(tokenizer.pieces(ids), spans, 0.04)
    assert [word.text for word in words] == tokenizer.decode(ids).split()
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(word.start < word.end for word in words)


def test_a_word_lasts_from_its_first_piece_to_its_last() -> None:
    spans = [(2, 4), (5, 6), (9, 10), (11, 15), (20, 21)]
    assert word_times(["▁th", "ree", "▁", "tw", "o"], spans, 0.5) == [
        Word("three", 1.0, 3.0),
        Word("two", 5.5, 10.5),  # the frames of ▁ belong to no word
    ]
    assert word_times(["a", "<unk>", "▁b", "</s>"], spans[:4], 0.5) == [Word("a", 1.0, 2.0), Word("b", 4.5, 5.0)]
