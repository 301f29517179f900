from __future__ import annotations

import csv
import math
import random
from itertools import permutations, product
from pathlib import Path

import pytest
import torch
from properties.test_attention_family import grow
from torch import Tensor, nn
from toy import BOS, EOS, toy_memory

from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.memory import Memory
from s2s.models.pointer_decoder import PointerDecoder
from s2s.tokenizers.base import SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

FIRST = 4
TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES])  # a search that has nothing to spell never asks


def decoder(seed: int = 0, vocab_size: int = 9) -> PointerDecoder:
    torch.manual_seed(seed)
    model = PointerDecoder(vocab_size, 16, 12).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def test_the_tokens_are_the_frames_that_there_are_and_the_end() -> None:
    model, memory = decoder(), toy_memory([5, 2])
    log_probs = model(memory, torch.tensor([[BOS, 4, 8], [BOS, 5, 4]]))
    possible = torch.isfinite(log_probs)
    assert possible[0].nonzero()[:, 1].unique().tolist() == [EOS, 4, 5, 6, 7, 8]
    assert possible[1].nonzero()[:, 1].unique().tolist() == [EOS, 4, 5]
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(2, 3).double())
    looked = model.attention(memory, torch.tensor([[BOS, 4, 8], [BOS, 5, 4]]))
    torch.testing.assert_close(looked, log_probs[..., FIRST:].exp())


@pytest.mark.parametrize("seed", range(3))
def test_a_token_at_a_time_gives_the_numbers_of_all_at_once(seed: int) -> None:
    grow(decoder(seed), [5, 3, 4, 1], steps=12, seed=seed)  # tokens past the end of the shorter ones too


def test_an_utterance_is_answered_the_same_alone_and_in_any_batch() -> None:
    model, lengths = decoder(), [5, 2, 4]
    tokens = torch.tensor([[BOS, 5, 4]] * 3)
    together = model(toy_memory(lengths), tokens)
    for b, length in enumerate(lengths):
        memory = toy_memory(lengths).rows(b, b + 1)
        torch.testing.assert_close(together[b], model(memory, tokens[:1])[0])
        assert memory.states.size(1) == length


class Frames(nn.Module):
    """Each frame by itself."""

    subsampling_factor = 1

    def __init__(self, input_dim: int, model_dim: int) -> None:
        super().__init__()
        self.model_dim = model_dim
        self.layers = nn.Sequential(
            nn.Linear(input_dim, model_dim), nn.Tanh(), nn.Linear(model_dim, model_dim), nn.Tanh()
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        return Memory(self.layers(source), lengths)


def search_of(model: EncoderDecoder, **options: float) -> object:
    return build_search(DecodingConfig(search="beam", ctc_weight=0.0, **options), [model], TOKENIZER)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("once", [False, True])
def test_a_wide_beam_finds_the_best_of_all_answers(seed: int, once: bool) -> None:
    model = EncoderDecoder(9, Frames(16, 16), decoder(seed), label_smoothing=0.0).double().eval()
    search = search_of(model, beam_size=9, nbest=9, no_repeat_ngram=int(once), end_detection="exact")
    lengths = [3, 2] if once else [2, 1]  # of answers of a length there are fewer than the beam is wide
    memory = toy_memory(lengths, seed)
    with torch.no_grad():
        found = search(memory)  # type: ignore[operator]
        for b, length in enumerate(lengths):
            frames = range(FIRST, FIRST + length)
            answers: list[tuple[int, ...]] = []
            for size in range(length + 1):
                answers += permutations(frames, size) if once else product(frames, repeat=size)
            scores = {}
            for answer in answers:
                log_probs = model.decoder(memory.rows(b, b + 1), torch.tensor([[BOS, *answer]]))[0]
                scores[answer] = sum(float(log_probs[i, t]) for i, t in enumerate([*answer, EOS]))
            best = max(scores, key=scores.__getitem__)
            assert tuple(found[b][0].tokens) == best
            assert found[b][0].score == pytest.approx(scores[best], abs=1e-9)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match=r"vocab_size=9: has tokens for 5 frames, there are 6; expected at least 10"):
        decoder()(toy_memory([6]), torch.tensor([[BOS]]))
    with pytest.raises(UserError, match=r"first_id=3: expected more than bos_id=2 and eos_id=3"):
        PointerDecoder(9, 16, first_id=3)
    with pytest.raises(UserError, match=r"label_smoothing=0\.1: a pointer's labels are frames; expected 0"):
        EncoderDecoder(9, Frames(16, 16), decoder())
    config = {"_target_": "s2s.models.pointer_decoder.PointerDecoder", "vocab_size": 4, "memory_dim": 16}
    with pytest.raises(UserError, match=r"first_id=4: .* less than vocab_size=4"):
        build(config)


def durations(root: Path) -> list[float]:
    """Seconds of real sentences."""
    with (root / "kerstin-german-cc0" / "metadata.tsv").open(encoding="utf-8") as table:
        return [float(row["duration"]) for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)]


def test_it_learns_to_put_real_recordings_in_the_order_of_their_lengths(data_root: Path) -> None:
    every = durations(data_root)
    training, others, chance = every[:1000], every[1000:], random.Random(0)
    mean, deviation = math.fsum(training) / len(training), 1.5

    def drawn(pool: list[float], size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sources (B,6,1), lengths (B,), targets (B,6): sets of recordings that differ by half a second or more."""
        source, target = torch.zeros(size, 6, 1), torch.full((size, 6), FIRST)
        lengths = torch.tensor([2 + chance.randrange(5) for _ in range(size)])
        for b, length in enumerate(lengths.tolist()):
            seconds: list[float] = []
            while len(seconds) < length:
                new = chance.choice(pool)
                if all(abs(new - other) >= 0.5 for other in seconds):
                    seconds.append(new)
            source[b, :length, 0] = (torch.tensor(seconds) - mean) / deviation
            order = sorted(range(length), key=seconds.__getitem__)
            target[b, :length] = FIRST + torch.tensor(order)
        return source, lengths, target

    torch.manual_seed(0)
    model = EncoderDecoder(10, Frames(1, 48), PointerDecoder(10, 48, 48), label_smoothing=0.0)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=400)
    for _ in range(400):
        source, lengths, target = drawn(training, 32)
        optimiser.zero_grad()
        model(source, lengths, target, lengths).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rates.step()

    source, lengths, target = drawn(others, 200)
    with torch.no_grad():
        found = search_of(model.eval(), beam_size=4, no_repeat_ngram=1)(model.encode(source, lengths))  # type: ignore[operator]
    right = [h[0].tokens == target[b, : lengths[b]].tolist() for b, h in enumerate(found)]
    assert sum(right) / len(right) > 0.95
