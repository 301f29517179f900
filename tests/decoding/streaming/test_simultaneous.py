"""What simultaneous decoding promises under every policy; wait-k and AlignAtt against plain loops of greedy search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model
from toy_whisper import NO_TIMES, PREVIOUS, SOT, TIMES, toy_features, toy_whisper

from s2s.decoding.beam import Beam
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.decoding.limits import Limits
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.scorers import DecoderScorer
from s2s.decoding.streaming.align_att import AlignAtt
from s2s.decoding.streaming.attention import AlignmentHeads, Attend, HeadMean
from s2s.decoding.streaming.hold_n import HoldN
from s2s.decoding.streaming.partial import Partial
from s2s.decoding.streaming.policies import POLICIES, build_policy
from s2s.decoding.streaming.policy import Policy
from s2s.decoding.streaming.simultaneous import Progress, SimultaneousSearch
from s2s.decoding.streaming.wait_k import WaitK
from s2s.decoding.whisper import WhisperScorer
from s2s.errors import UserError
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.embedding import TokenFront

V = 8
OPTIONS: dict[str, dict[str, Any]] = {
    "wait_k": {"k": 2, "piece_frames": 2},
    "local_agreement": {},
    "hold_n": {"n": 1},
    "edatt": {"alpha": 0.4},
    "align_att": {"frames": 2},
    "simul_whisper": {"frames": 2, "last_word": 3, "rewind": 2},
    "monotonic": {"frames": 2},
}
STARTS = torch.tensor([False, False, False, False, True, False, True, False])


@dataclass
class Kind:
    """A model with an offline search, and what it makes of the first frames of an utterance."""

    search: LabelSearch
    attend: Attend
    starts: torch.Tensor

    def memory(self, utterance: int, heard: int) -> Memory:
        raise NotImplementedError


def talk(decoder: Any) -> None:
    """Make the end less probable."""
    with torch.no_grad():
        decoder.out.bias[EOS] -= 3.0


class Hybrid(Kind):
    """A joint search; each time an utterance is heard again its frames are others."""

    def __init__(self, seed: int, beam_size: int = 3, ctc_weight: float = 0.3, **options: Any) -> None:
        self.model, self.seed = toy_model(V, seed), seed
        talk(self.model.decoder)
        scorers = {
            "attention": (DecoderScorer(self.model.decoder), 1.0 - ctc_weight),
            "ctc": (CTCPrefixScorer(self.model.ctc, BOS, EOS), ctc_weight),
        }
        search = LabelSearch(scorers, Beam(beam_size), V, BOS, EOS, (BLANK, BOS), **options)
        super().__init__(search, HeadMean(self.model.decoder, [[1, 0]]), STARTS)

    def memory(self, utterance: int, heard: int) -> Memory:
        return toy_memory([heard], 1000 * self.seed + 50 * utterance + heard)


class Translator(Kind):
    """Text to text: source tokens, and the end of the sentence behind them."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        encoder = TransformerEncoder(TokenFront(9, 16), 16, 1, 2, 24)
        self.model = EncoderDecoder(V, encoder, TransformerDecoder(V, 16, 16, 1, 2, 24)).double().eval()
        self.source = torch.randint(1, 8, (9, 60))
        with torch.no_grad():
            self.model.decoder.out.weight *= 3  # type: ignore[attr-defined]
        talk(self.model.decoder)
        search = LabelSearch(
            {"attention": (DecoderScorer(self.model.decoder), 1.0)},
            Beam(2),
            V,
            BOS,
            EOS,
            (BOS,),
            limits=Limits(1.2),
            normalisation=Normalisation(length_power=1.0),
        )
        super().__init__(search, HeadMean(self.model.decoder), STARTS)

    @torch.no_grad()
    def memory(self, utterance: int, heard: int) -> Memory:
        source = torch.cat((self.source[utterance, :heard], torch.tensor([8]))).unsqueeze(0)
        return self.model.encode(source, torch.tensor([heard + 1]))


class Whispers(Kind):
    """Whisper with prompts, and silence behind what was heard."""

    prompts = ([SOT, NO_TIMES], [PREVIOUS, 1, 3, SOT, NO_TIMES], [PREVIOUS, 2, SOT, NO_TIMES])

    def __init__(self, seed: int) -> None:
        self.model, self.seed = toy_whisper(40, max_positions=60, seed=seed), seed
        with torch.no_grad():
            self.model.decoder.out_bias[self.model.eos_id] -= 3.0  # type: ignore[index]
        scorers = {"attention": (WhisperScorer(self.model, TIMES), 1.0)}
        search = LabelSearch(scorers, Beam(2), self.model.vocab_size, SOT, self.model.eos_id, limits=Limits(0.5))
        starts = torch.arange(self.model.vocab_size) % 2 == 0
        super().__init__(search, AlignmentHeads(self.model), starts)

    @torch.no_grad()
    def memory(self, utterance: int, heard: int) -> Memory:
        features, _ = toy_features([80], 100 * self.seed + utterance)
        memory = self.model.encode(features[:, : 2 * heard], torch.tensor([2 * heard]))
        return PromptedMemory.of(memory, [self.prompts[utterance % 3]])


KINDS = {"hybrid": Hybrid, "translator": Translator, "whisper": Whispers}


def joined(kind: Kind, memories: Sequence[Memory], utterances: Sequence[int]) -> Memory:
    together = Memory.joined(memories)
    if isinstance(kind, Whispers):
        return PromptedMemory.of(together, [kind.prompts[b % 3] for b in utterances])
    return together


def played(
    kind: Kind, search: SimultaneousSearch, heard: Sequence[Sequence[int]], together: bool
) -> list[list[Partial]]:
    """The partials of utterances, each heard as far as its numbers say and ended with the last of them."""
    progress = [search.start() for _ in heard]
    found: list[list[Partial]] = [[] for _ in heard]
    for step in range(max(map(len, heard))):
        here = [b for b, own in enumerate(heard) if step < len(own)]
        for group in [here] if together else [[b] for b in here]:
            memory = joined(kind, [kind.memory(b, heard[b][step]) for b in group], group)
            ended = [step == len(heard[b]) - 1 for b in group]
            frames = [heard[b][step] for b in group]
            for b, partial in zip(
                group, search.step(memory, [progress[b] for b in group], ended, frames, frames), strict=True
            ):
                found[b].append(partial)
    return found


def steps(lengths: list[list[int]]) -> list[list[int]]:
    """Frames heard after each of some steps."""
    return [[sum(own[: i + 1]) for i in range(len(own))] for own in lengths]


LENGTHS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=3)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
@given(lengths=LENGTHS, whole=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=3)
def test_what_is_committed_stays_in_whole_words_the_same_alone_and_together(
    kind: str, name: str, lengths: list[list[int]], whole: bool, seed: int
) -> None:
    model: Kind = KINDS[kind](seed)  # type: ignore[abstract,operator]
    policy = build_policy(name, OPTIONS[name])
    search = SimultaneousSearch(model.search, policy, model.attend, model.starts if whole else None)
    heard = steps(lengths)
    alone, together = (played(model, search, heard, flag) for flag in (False, True))
    for partials, others in zip(alone, together, strict=True):
        final = partials[-1].hypothesis.tokens
        assert partials[-1].num_stable == len(final)
        committed: list[int] = []
        frames: list[tuple[int, int]] = []
        for partial, other in zip(partials, others, strict=True):
            hypothesis, count = partial.hypothesis, partial.num_stable
            assert hypothesis.tokens[: len(committed)] == committed
            assert count >= len(committed)
            assert hypothesis.frames is not None
            assert hypothesis.frames[: len(frames)] == frames
            assert len(hypothesis.frames) == len(hypothesis.tokens)
            assert hypothesis.frames == sorted(hypothesis.frames)
            assert all(0 <= first < last <= partial.heard for first, last in hypothesis.frames)
            committed, frames = hypothesis.tokens[:count], hypothesis.frames[:count]
            for tokens in (hypothesis.tokens, final):
                if whole and 0 < count < len(tokens):
                    assert model.starts[tokens[count]]  # no word is cut
            assert (hypothesis.tokens, hypothesis.frames) == (other.hypothesis.tokens, other.hypothesis.frames)
            assert (count, partial.heard) == (other.num_stable, other.heard)
            assert hypothesis.score == pytest.approx(other.hypothesis.score, abs=1e-6)
        assert committed == final


def test_no_word_goes_on_after_it_was_committed_to() -> None:
    cut = {True: 0, False: 0}
    for seed in range(8):
        for whole in cut:
            model = Hybrid(seed, beam_size=1)
            search = SimultaneousSearch(model.search, HoldN(0), starts=model.starts if whole else None)
            for partials in played(model, search, steps([[4, 3, 3, 2, 4], [3, 4, 4]]), True):
                final = partials[-1].hypothesis.tokens
                ends = {partial.num_stable for partial in partials} - {0, len(final)}
                cut[whole] += sum(not model.starts[final[end]] for end in ends)
    assert cut[False] > 5  # the model would
    assert cut[True] == 0


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_whole_at_once_is_found_as_offline(kind: str, name: str) -> None:
    model: Kind = KINDS[kind](3)  # type: ignore[abstract,operator]
    search = SimultaneousSearch(model.search, build_policy(name, OPTIONS[name]), model.attend, model.starts)
    heard = [[12], [7], [20]]
    memory = joined(model, [model.memory(b, own[0]) for b, own in enumerate(heard)], range(3))
    offline = model.search(memory)
    for partials, hypotheses in zip(played(model, search, heard, True), offline, strict=True):
        [partial] = partials
        assert partial.hypothesis.tokens == hypotheses[0].tokens
        assert partial.hypothesis.score == pytest.approx(hypotheses[0].score, abs=1e-9)
        assert partial.num_stable == len(hypotheses[0].tokens)
    assert any(hypotheses[0].tokens for hypotheses in offline)


def greedy(model: Hybrid, memory: Memory, committed: list[int], most: int) -> list[int]:
    """Up to `most` more tokens, the best one after the other, or those before eos."""
    tokens = list(committed)
    while len(tokens) < len(committed) + most:
        log_probs = model.model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0, -1]
        log_probs[[BLANK, BOS]] = float("-inf")
        best = int(log_probs.argmax())
        if best == EOS:
            break
        tokens.append(best)
    return tokens


@given(k=st.integers(1, 4), piece=st.integers(1, 4), pieces=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=15)
@torch.no_grad()
def test_wait_k_is_the_plain_loop_that_reads_a_piece_and_writes_a_token(
    k: int, piece: int, pieces: int, seed: int
) -> None:
    model = Hybrid(seed, beam_size=1, ctc_weight=0.0, limits=Limits(1.0))
    written: list[int] = []
    expected = []
    for read in range(1, pieces + 1):
        memory = model.memory(0, read * piece)
        due = 99 if read == pieces else max(0, read - k + 1 - len(written))
        written = greedy(model, memory, written, min(due, read * piece - len(written)))
        expected.append(list(written))
    search = SimultaneousSearch(model.search, WaitK(k, piece, "tokens"))
    [partials] = played(model, search, [[piece * read for read in range(1, pieces + 1)]], False)
    assert [partial.hypothesis.tokens[: partial.num_stable] for partial in partials] == expected
    for read, partial in enumerate(partials, start=1):
        for i in range(1, partial.num_stable + 1):
            assert read >= min(k + i - 1, pieces)


@given(frames=st.integers(1, 4), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=15)
@torch.no_grad()
def test_align_att_is_the_plain_loop_that_stops_where_a_token_looks_at_the_end(
    frames: int, lengths: list[int], seed: int
) -> None:
    model = Hybrid(seed, beam_size=1, ctc_weight=0.0, limits=Limits(1.0))
    written: list[int] = []
    expected, [heard] = [], steps([lengths])
    since = 0
    for number in heard:
        memory = model.memory(0, number)
        hypothesis = greedy(model, memory, written, number - len(written))
        new = hypothesis[len(written) :]
        if number < heard[-1]:
            weights = model.model.decoder.read(memory, torch.tensor([[BOS, *hypothesis]]), [(1, 0)])[1][0, 0]  # type: ignore[attr-defined]
            looked = weights.argmax(dim=1).tolist()[len(written) :]
            stop = next((i for i in range(len(new)) if looked[i] >= number - frames), len(new))
            new = new[: min(stop, number - since)]
        since = number if new else since
        written += new
        expected.append(list(written))
    search = SimultaneousSearch(model.search, AlignAtt(frames), model.attend)
    [partials] = played(model, search, [heard], False)
    assert [partial.hypothesis.tokens[: partial.num_stable] for partial in partials] == expected


@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=6), ratio=st.sampled_from([0.2, 0.5, 1.0]))
@settings(max_examples=10)
def test_a_decoder_that_loops_fills_no_page(lengths: list[int], ratio: float) -> None:
    model = Hybrid(0, beam_size=1, ctc_weight=0.0, limits=Limits(ratio))
    with torch.no_grad():
        model.model.decoder.out.bias[5] = 99.0  # type: ignore[attr-defined]
    search = SimultaneousSearch(model.search, HoldN(0))
    [heard] = steps([lengths])
    [partials] = played(model, search, [heard], False)
    assert len(partials[-1].hypothesis.tokens) == max(1, int(ratio * heard[-1]))
    count = since = 0
    for number, partial in zip(heard[:-1], partials, strict=False):
        assert partial.num_stable - count <= ratio * (number - since)
        since = number if partial.num_stable > count else since
        count = partial.num_stable


def test_utterances_begin_and_end_when_they_like() -> None:
    model, policy = Hybrid(4), HoldN(1)
    search = SimultaneousSearch(model.search, policy, model.attend)
    first, second = search.start(), search.start()
    search.step(model.memory(0, 8), [first], [False])
    search.step(joined(model, [model.memory(1, 5), model.memory(0, 12)], [1, 0]), [second, first], [False, False])
    [late] = search.step(model.memory(1, 9), [second], [True])
    own = search.start()
    search.step(model.memory(1, 5), [own], [False])
    [expected] = search.step(model.memory(1, 9), [own], [True])
    assert late == expected


def test_attention_is_asked_for_where_a_policy_needs_it() -> None:
    with pytest.raises(UserError, match=r"AlignAtt: needs to know where the decoder looks"):
        SimultaneousSearch(Hybrid(0).search, AlignAtt())


def test_without_attention_no_times_are_known() -> None:
    model = Hybrid(0)
    policy: Policy[Any] = HoldN(0)
    search = SimultaneousSearch(model.search, policy)
    progress: Progress = search.start()
    [partial] = search.step(model.memory(0, 9), [progress], [True])
    assert partial.hypothesis.frames is None
    assert progress.frames == []
    assert partial.heard == 9
