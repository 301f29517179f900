"""Noise against its definition: what is masked, what stays, how often."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.data.denoising import DenoisingConfig, denoising_source, infilled, mask_id, masked, poisson
from s2s.data.noisy_text import NoisyText
from s2s.data.parallel import Direction, Sentence
from s2s.data.text_batches import TextDataConfig, TokenPairs, evaluation_text_batches, training_text_batches
from s2s.errors import UserError
from s2s.tokenizers import JointTokenizer, train_tokenizer

MASK = 0


@given(size=st.integers(0, 40), share=st.floats(0.0, 1.0), mean_span=st.floats(0.2, 6.0), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_what_is_not_masked_stays_in_order_and_each_gap_has_a_mask(
    size: int, share: float, mean_span: float, seed: int
) -> None:
    tokens = list(range(10, 10 + size))
    found = infilled(tokens, share, mean_span, MASK, random.Random(seed))
    kept = [token for token in found if token != MASK]
    assert kept == sorted(kept)
    assert set(kept) <= set(tokens)
    assert abs((size - len(kept)) - share * size) < 1.0
    at = 9  # the last token that is known
    for before, token in zip([9, *found], found, strict=False):
        if token != MASK:
            assert token == at + 1 or before == MASK  # no token is lost without a mask
            at = token
    assert share > 0.0 or found == tokens


def test_the_share_is_kept_in_the_mean_and_neither_end_is_preferred() -> None:
    chance, size = random.Random(0), 12
    gone: Counter[int] = Counter()
    runs, spans = 4000, 0
    for _ in range(runs):
        found = infilled(range(1, 1 + size), 0.3, 3.0, MASK, chance)
        gone.update(set(range(1, 1 + size)) - set(found))
        spans += found.count(MASK)
    assert sum(gone.values()) / (runs * size) == pytest.approx(0.3, abs=0.01)
    for place in range(1, 1 + size):
        assert gone[place] / runs == pytest.approx(gone[13 - place] / runs, abs=0.04)
    assert 1.0 < spans / runs < 3.0


def test_spans_are_drawn_from_a_poisson_distribution() -> None:
    chance = random.Random(0)
    counts = Counter(poisson(3.0, chance) for _ in range(20000))
    for k in range(8):
        assert counts[k] / 20000 == pytest.approx(math.exp(-3) * 3**k / math.factorial(k), abs=0.012)


def test_every_arrangement_of_a_span_is_as_likely() -> None:
    chance = random.Random(1)
    seen = Counter(tuple(infilled([1, 2, 3], 1 / 3, 1e9, MASK, chance)) for _ in range(9000))
    wanted = [(0, 2, 3), (1, 0, 3), (1, 2, 0)]
    assert set(seen) == set(wanted)
    assert all(seen[each] / 9000 == pytest.approx(1 / 3, abs=0.03) for each in wanted)


def test_sentences_change_places_and_stay_whole() -> None:
    config = DenoisingConfig(mask_share=0.0, sentences=3)
    sentences = [[1, 2], [3], [4, 5, 6]]
    seen = Counter(tuple(denoising_source(sentences, config, MASK, random.Random(seed))) for seed in range(600))
    assert len(seen) == 6
    assert all(count > 60 for count in seen.values())
    kept = DenoisingConfig(mask_share=0.0, permute=False)
    assert denoising_source(sentences, kept, MASK, random.Random(0)) == [1, 2, 3, 4, 5, 6]


def test_masks_of_a_decoder_are_a_share_of_its_tokens_and_the_seed_decides_which() -> None:
    tokens = torch.arange(1, 4001).view(40, 100)
    found = masked(tokens, 0.15, MASK, 3)
    assert (found == MASK).float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert torch.equal(found[found != MASK], tokens[found != MASK])
    assert torch.equal(found, masked(tokens, 0.15, MASK, 3))
    assert not torch.equal(found, masked(tokens, 0.15, MASK, 4))
    assert torch.equal(masked(tokens, 0.0, MASK, 3), tokens)


TOKENIZER = JointTokenizer(train_tokenizer("char", ["abcdefghij"]))
LINES = [f"{'abcdefghij'[i % 10] * (1 + i % 7)}" for i in range(40)]


def noisy(config: DenoisingConfig, seed: int = 1) -> NoisyText:
    files = [("a", Direction("en", "en"), LINES[:25]), ("b", Direction("de", "de"), LINES[25:])]
    sentences = [
        Sentence(f"{file}:{i}", direction, line, line) for file, direction, own in files for i, line in enumerate(own)
    ]
    return NoisyText.of(TokenPairs.of(sentences, TOKENIZER), config, mask_id(TOKENIZER), TOKENIZER.eos_id, seed)


def sources(text: NoisyText) -> dict[str, list[int]]:
    """The tokens that are read of each example, in batches of any size."""
    found = {}
    for batch in evaluation_text_batches(text, TextDataConfig(max_batch_tokens=30, max_length=30)):
        for name, row, length in zip(batch.ids, batch.source, batch.source_lengths.tolist(), strict=True):
            found[name] = row[:length].tolist()
    return found


def test_noise_is_decided_by_seed_epoch_and_sentence_alone() -> None:
    text = noisy(DenoisingConfig()).of_epoch(3)
    first = sources(text)
    assert len(first) == 40
    assert first == sources(noisy(DenoisingConfig()).of_epoch(3))
    for number in range(40):  # alone, as in any batch
        batch = text.batch([number])
        assert batch.source[0].tolist() == first[batch.ids[0]]
    assert first != sources(text.of_epoch(4))
    assert first != sources(noisy(DenoisingConfig(), seed=2).of_epoch(3))
    trained = training_text_batches(text, TextDataConfig(max_batch_tokens=30, max_length=30), seed=1, epoch=3)
    for batch in trained:
        for name, row, length in zip(batch.ids, batch.source, batch.source_lengths.tolist(), strict=True):
            assert row[:length].tolist() == first[name]


def test_targets_are_the_text_and_examples_are_lines_of_one_file() -> None:
    text = noisy(DenoisingConfig(mask_share=0.0, sentences=4))
    assert [len(example) for example in text.examples] == [4] * 6 + [1] + [4] * 3 + [3]
    batch = text.batch([0, 6, 7])
    assert batch.texts == [" ".join(LINES[:4]), LINES[24], " ".join(LINES[25:29])]
    assert batch.ids == ["a:0", "a:24", "b:0"]
    for b, lines in enumerate((LINES[:4], [LINES[24]], LINES[25:29])):
        tokens = [token for line in lines for token in TOKENIZER.encode(line)]
        target = batch.target[b, : batch.target_lengths[b]].tolist()
        assert target == tokens
        source = batch.source[b, : batch.source_lengths[b]].tolist()
        assert source[-1] == TOKENIZER.eos_id
        assert sorted(source[:-1]) == sorted(tokens)
    assert [str(each) for each in text.directions] == ["en-en"] * 7 + ["de-de"] * 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask_share": 1.2}, r"denoising\.mask_share is 1\.2; expected a share"),
        ({"mean_span": 0.0}, r"denoising\.mean_span is 0\.0; expected more than 0"),
        ({"sentences": 0}, r"denoising\.sentences is 0; expected at least 1"),
    ],
)
def test_wrong_values_are_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DenoisingConfig(**values)  # type: ignore[arg-type]


def test_a_tokenizer_without_a_blank_has_no_mask() -> None:
    class Bare:
        kind, blank_id = "marian", -1

    with pytest.raises(UserError, match=r"a marian tokenizer has no blank, which is the mask"):
        mask_id(Bare())  # type: ignore[arg-type]
