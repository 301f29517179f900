"""What a model heard in a recording, and where it looked: all that a picture of an alignment shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from s2s.audio.windows import Window
from s2s.decoding.alignment import Word, label_spans, word_times
from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.word_timing import FRAMES_PER_SECOND, over_frames
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.prompts import Prompts
from s2s.models.segmental import SegmentalModel
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.transcription.hearing import Hearing
from s2s.transcription.hybrid import HybridTranscriber
from s2s.transcription.request import Request
from s2s.transcription.sentences import shifted
from s2s.transcription.transcriber import Transcriber
from s2s.transcription.whisper import WhisperTranscriber

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Head:
    """Where a head looked for each token, weights (U,T); and the frames (U,) where it stopped, if it stops."""

    weights: Tensor
    stops: Tensor | None = None


@dataclass(frozen=True)
class Sight:
    """Of U tokens and T frames; times are seconds of the recording, of which the samples begin at `start`.

    `mean` is that of the heads that `mean_of` names; `heads` are those of each layer, none where the decoder tells the
    mean alone. `spikes` is how probable it is that a frame is not blank (CTC), `segments` the frames of each token, of
    a segmental model.
    """

    samples: Tensor  # (n,)
    sampling_rate: int
    seconds_per_frame: float
    words: list[Word]
    pieces: list[str]  # (U)
    mean: Tensor  # (U,T)
    mean_of: str
    heads: list[list[Head]] = field(default_factory=list)
    spikes: Tensor | None = None  # (T,)
    segments: Spans | None = None  # (U)
    start: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the samples are."""
        return len(self.samples) / self.sampling_rate


@torch.inference_mode()
def see(
    transcriber: Transcriber, samples: Tensor, text: str | None = None, language: str | None = None, start: float = 0.0
) -> Sight:
    """What a transcriber hears in samples (n,) at its sampling rate, or where it finds the words of `text` in them.

    They begin at `start` seconds of a recording. Raises UserError for more audio than is heard at once, where nothing
    is heard, and for a text that does not fit.
    """
    seconds = len(samples) / transcriber.sampling_rate
    if seconds > transcriber.max_window:
        raise UserError(
            f"{seconds:.1f} s of audio, of which {transcriber.max_window:.0f} s are heard at once; choose a part of it"
        )
    if isinstance(transcriber, WhisperTranscriber):
        sight = _by_whisper(transcriber, samples, text, language)
    else:
        assert isinstance(transcriber, HybridTranscriber)
        request = transcriber.check(Request(language))
        sight = _by_hybrid(transcriber, samples, text, transcriber.asked([language], request))
    return replace(sight, words=[shifted(word, start) for word in sight.words], start=start)


def _by_hybrid(transcriber: HybridTranscriber, samples: Tensor, text: str | None, asked: Prompts | None) -> Sight:
    bundle, model = transcriber.bundle, transcriber.bundle.model
    features, lengths = bundle.features(samples.unsqueeze(0), torch.tensor([len(samples)]))
    if int(lengths) < 1:
        raise UserError("the audio is shorter than one frame of features; nothing to hear")
    device = transcriber.device
    asked = None if asked is None else asked.to(device)
    memory = model.encode(features.to(device), lengths.to(device), transcriber.decoding.chunks, asked)
    if text is None:
        best = transcriber.search_for("transcribe", timed=True)(memory)[0][0]
    else:
        tokens = bundle.tokenizer.encode(text)
        if bundle.tokenizer.unk_id in tokens:
            raise UserError(f"'{text}' has characters that the tokenizer lacks; write it as in training")
        best = Hypothesis(tokens, 0.0, frames=_spans(model, memory, tokens))
    if not best.tokens:
        raise UserError("nothing was heard; give the words that were said as the text")
    pieces = bundle.tokenizer.pieces(best.tokens)
    words = [] if best.frames is None else word_times(pieces, best.frames, transcriber.seconds_per_frame)
    segments: Spans | None = None
    heads: list[list[Head]] = []
    row = memory.lengths.new_tensor([[model.bos_id, *best.tokens]])
    if isinstance(model, SegmentalModel):
        ends = [end for _, end in best.frames or _spans(model, memory, best.tokens)]
        segments = list(zip([0, *ends], ends, strict=False))
        mean = model.decoder.attention(memory, row, memory.lengths.new_tensor([ends]))[0]
    elif isinstance(model.decoder, TransformerDecoder):
        heads = _heads(model.decoder, memory, row, len(best.tokens))
        mean = torch.stack([head.weights for layer in heads for head in layer]).mean(dim=0)
    else:
        mean = model.decoder.attention(memory, row)[0, : len(best.tokens)]
    spikes = 1.0 - model.ctc(memory)[0, :, model.blank_id].exp()
    rate, frame = transcriber.sampling_rate, transcriber.seconds_per_frame
    return Sight(samples, rate, frame, words, pieces, mean.cpu(), "all heads", heads, spikes.cpu(), segments)


def _spans(model: HybridModel, memory: Memory, tokens: list[int]) -> Spans:
    """The frames of each token of one utterance."""
    try:
        return label_spans(model, memory, [tokens])[0]
    except UtteranceError as error:
        raise UserError(error.problem) from error


def _by_whisper(transcriber: WhisperTranscriber, samples: Tensor, text: str | None, language: str | None) -> Sight:
    model, tokenizer, rate = transcriber.model, transcriber.tokenizer, transcriber.sampling_rate
    request = transcriber.check(Request(language))
    window = Window(0.0, samples, [(0.0, len(samples) / rate)])
    hearing = Hearing(window, request.language, timestamps=False)
    if text is None:
        transcriber.listen([hearing], request.task)
    else:
        transcriber.prompted([hearing], request.task)
        hearing.hypotheses = [Hypothesis(tokenizer.encode(f" {text.strip()}"), 0.0)]
    tokens = hearing.best.tokens
    if not tokenizer.decode(tokens).strip():
        raise UserError("nothing was heard; give the words that were said as the text")
    [words] = transcriber.words([hearing], request)
    memory, prompt = hearing.memory, tokenizer.prompt(hearing.language, request.task, timestamps=False)
    assert memory is not None
    row = memory.lengths.new_tensor([[*prompt, *tokens]])
    frames = max(1, min(int(memory.lengths), math.ceil(FRAMES_PER_SECOND * len(samples) / rate)))
    heads = _heads(model.decoder, memory, row, len(tokens), len(prompt) - 1, frames)
    mean = torch.stack([heads[layer][head].weights for layer, head in model.alignment_heads]).mean(dim=0)
    return Sight(samples, rate, 1 / FRAMES_PER_SECOND, words, tokenizer.pieces(tokens), mean, "alignment heads", heads)


def _heads(
    decoder: TransformerDecoder, memory: Memory, row: Tensor, size: int, first: int = 0, frames: int | None = None
) -> list[list[Head]]:
    """The heads of each layer for `size` tokens, of which the first is predicted by that at `first` of the row (1,U).

    Weights are over the first `frames` alone, where not all are of the audio.
    """
    numbers = [(i, head) for i, layer in enumerate(decoder.layers) for head in range(layer.memory_attention.num_heads)]
    weights = decoder.read(memory, row, numbers)[1][0, :, first : first + size].float()  # (H,U,T)
    if frames is not None:
        weights = over_frames(weights.unsqueeze(0), memory.lengths.new_tensor([frames]))[0, ..., :frames]
    stopping = [(i, head) for i, number in decoder.stopping_heads.items() for head in range(number)]
    stops = (
        dict(zip(stopping, decoder.stops(memory, row)[0, :, first : first + size].cpu(), strict=True))
        if stopping
        else {}
    )
    found: list[list[Head]] = [[] for _ in decoder.layers]
    for number, own in zip(numbers, weights.cpu(), strict=True):
        found[number[0]].append(Head(own, stops.get(number)))
    return found
