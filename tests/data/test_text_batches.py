"""Batches of parallel text: every sentence once, within the budget, the same again."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.data.parallel import Direction, Sentence
from s2s.data.text_batches import (
    TextDataConfig,
    TokenPairs,
    evaluation_text_batches,
    sampled,
    training_text_batches,
)
from s2s.errors import UserError
from s2s.tokenizers import JointTokenizer, train_tokenizer

EN_DE, DE_EN = Direction("en", "de"), Direction("de", "en")
TOKENIZER = JointTokenizer(train_tokenizer("char", ["abcdefghij"]), ["de", "en"])


def pairs(sizes: list[tuple[int, int]]) -> TokenPairs:
    sentences = [
        Sentence(f"file:{i}", EN_DE if i % 3 else DE_EN, "abcdefghij"[i % 10] * s, "jihgfedcba"[i % 10] * t)
        for i, (s, t) in enumerate(sizes)
    ]
    return TokenPairs.of(sentences, TOKENIZER)


def test_a_share_of_the_targets_is_plain_and_is_asked_for_so() -> None:
    sentences = [Sentence(f"file:{i}", EN_DE, "abc.", "A, b!") for i in range(200)]
    own = TokenPairs.of(sentences, TOKENIZER, plain_share=0.25)
    batch = own.some(range(10, 200)).batch(range(190))
    assert batch.asked is not None
    assert 25 < sum(text == "a b" for text in batch.texts) < 75
    for text, ids, target in zip(batch.texts, batch.asked.tokens.tolist(), batch.target, strict=True):
        mark = "<nopnc>" if text == "a b" else "<pnc>"
        assert TOKENIZER.pieces(ids) == ["<en>", "<de>", "<translate>", mark]
        assert target[: len(TOKENIZER.encode(text))].tolist() == TOKENIZER.encode(text)
    assert not any(text == "a b" for text in TokenPairs.of(sentences, TOKENIZER).texts)


sizes_of_sentences = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)


@given(sizes=sizes_of_sentences, budget=st.integers(40, 200), epoch=st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_an_epoch_has_every_sentence_once_within_the_budget(
    sizes: list[tuple[int, int]], budget: int, epoch: int
) -> None:
    own = pairs(sizes)
    config = TextDataConfig(max_batch_tokens=budget, max_length=40, num_buckets=4)
    for batches in (training_text_batches(own, config, seed=1, epoch=epoch), evaluation_text_batches(own, config)):
        found = list(batches)
        assert len(found) == len(batches)
        assert sorted(name for batch in found for name in batch.ids) == sorted(own.names)
        for batch in found:
            assert len(batch) * max(batch.source.size(1), batch.target.size(1) + 1) <= budget
            for row, name in enumerate(batch.ids):
                number = int(name.split(":")[1])
                code = "de" if number % 3 else "en"
                source = batch.source[row, : batch.source_lengths[row]].tolist()
                assert source == TOKENIZER.encode_source("abcdefghij"[number % 10] * sizes[number][0])
                assert batch.asked is not None
                assert TOKENIZER.pieces(batch.asked.tokens[row].tolist())[1] == f"<{code}>"
                target = batch.target[row, : batch.target_lengths[row]].tolist()
                assert TOKENIZER.decode(target) == batch.texts[row] == "jihgfedcba"[number % 10] * sizes[number][1]
                assert not batch.source[row, batch.source_lengths[row] :].any()


def test_seed_and_epoch_alone_decide_and_a_part_can_be_left_out() -> None:
    own, config = (
        pairs([(i % 20 + 1, i % 7 + 1) for i in range(100)]),
        TextDataConfig(max_batch_tokens=60, max_length=60),
    )

    def ids(**options: int) -> list[list[str]]:
        return [batch.ids for batch in training_text_batches(own, config, **{"seed": 1, "epoch": 0, **options})]

    assert ids() == ids()
    assert ids() != ids(epoch=1)
    assert ids() != ids(seed=2)
    assert ids(skip_batches=3) == ids()[3:]
    ranks = [ids(rank=rank, world_size=3) for rank in range(3)]
    assert len({len(rank) for rank in ranks}) == 1
    assert sorted(name for rank in ranks for batch in rank for name in batch) == sorted(own.names)


def test_temperature_evens_out_the_directions() -> None:
    directions = [EN_DE] * 900 + [DE_EN] * 100
    for temperature, share in ((1.0, 0.1), (2.0, 0.25), (1e9, 0.5)):
        counts = sampled(directions, temperature, random.Random(1))
        own = Counter[str]()
        for number, count in counts.items():
            own[str(directions[number])] += count
        assert own["de-en"] / own.total() == pytest.approx(share, abs=0.002)
        assert own.total() == pytest.approx(1000, abs=1)
        small = [counts[number] for number in range(900, 1000)]
        assert max(small) - min(small) <= 1  # whole rounds, and a part drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_tokens": 0}, r"text\.max_batch_tokens is 0"),
        ({"max_batch_size": 0}, r"text\.max_batch_size is 0"),
        ({"max_length": 300, "max_batch_tokens": 200}, r"text\.max_length is 300, more than"),
        ({"pairs": []}, r"text\.pairs is empty"),
        ({"temperature": -1.0}, r"text\.temperature is -1"),
        ({"plain_share": 1.5}, r"text\.plain_share is 1\.5"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextDataConfig(**options)  # type: ignore[arg-type]
