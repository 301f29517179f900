"""Transcription by Whisper: language, passes until a text can be believed, words with their times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.audio.voice_activity import VoiceActivity
from s2s.audio.windows import Window
from s2s.decoding.alignment import Word
from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.decoding.hypothesis import Search
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.repetition import compression_ratio
from s2s.decoding.search_all import search_all
from s2s.decoding.word_timing import word_times
from s2s.errors import UserError
from s2s.models.bundle import Bundle
from s2s.models.memory import Memory
from s2s.models.whisper import Whisper
from s2s.nn.quantise import set_dtype
from s2s.tokenizers.whisper import WhisperTokenizer
from s2s.transcription.gaps import gaps
from s2s.transcription.hearing import Doubt, Hearing
from s2s.transcription.recording import Recording
from s2s.transcription.request import Request
from s2s.transcription.sentences import sentences, shifted
from s2s.transcription.sequential import sequentially
from s2s.transcription.transcriber import Event, OnSeconds, Transcriber
from s2s.transcription.transcript import Segment, Transcript, merged

FULL = 30.0  # seconds that Whisper was trained to hear
ALLOWANCE = 1.0  # seconds by which a window counts as longer, when its text is thought too long for it
LEAST = 0.05  # seconds: nothing shorter is speech
SURE = 0.5  # probability of a token (geometric mean) in text that was passed over at first
WORDS_AT_ONCE = 8  # windows whose words are timed together
# What a beam heeds and a sample does not, at its default.
NOT_SAMPLED: dict[str, Any] = {
    "groups": 1,
    "diversity": 0.0,
    "length_alpha": 0.0,
    "coverage_beta": 0.0,
    "end_detection": None,
    "patience": 1.0,
}


class WhisperTranscriber(Transcriber):
    """Whisper with a search: audio in, text out.

    `decoding` is how it searches (default: conf/decoding/whisper.yaml). A short window is heard with `tail` seconds of
    silence behind it, and a rough idea of the rest of the 30 s that Whisper was trained on (`Whisper.encode`); if its
    text is in `doubt`, it is heard again in full, and then by sampling.
    """

    max_window = FULL

    def __init__(
        self,
        bundle: Bundle[Whisper],
        decoding: DecodingConfig | None = None,
        doubt: Doubt | None = None,
        tail: float = 0.3,
        dtype: str = "float32",
    ) -> None:
        assert isinstance(bundle.tokenizer, WhisperTokenizer)
        self.bundle, self.tokenizer, self.model = bundle, bundle.tokenizer, set_dtype(bundle.model, dtype)
        self.decoding = decoding or load_decoding_config(["decoding=whisper"])
        self.doubt, self.tail = doubt or Doubt(), tail
        self.parameter = next(self.model.parameters())
        self.at_once = self.decoding.batch_size
        self.searches: dict[float, Search] = {0.0: build_search(self.decoding, [self.model], self.tokenizer)}

    @property
    def sampling_rate(self) -> int:
        return self.bundle.features.config.sampling_rate

    def check(self, request: Request) -> Request:
        """The language as its code; UserError for a language or a task that the model lacks."""
        if request.target_language not in (None, "en", "English") or not request.punctuation:
            given = "punctuation=False" if not request.punctuation else f"target_language={request.target_language}"
            raise UserError(f"{given}: Whisper translates into English, and punctuates; leave it out")
        language = None if request.language is None else self.tokenizer.language_code(request.language)
        if not self.tokenizer.is_multilingual:
            language = "en"
        self.tokenizer.prompt(language or "en", request.task)
        return replace(request, language=language)

    def has_speech(self, window: Window, detector: VoiceActivity) -> bool:
        """Whether anything may be speech: in silence Whisper hears what was often said in its training."""
        if len(window.samples) < LEAST * self.sampling_rate:
            seconds = len(window.samples) / self.sampling_rate
            raise UserError(f"{seconds:.3f} s of audio are too short to hold speech; expected {LEAST} s or more")
        return bool((torch.cat((detector.feed(window.samples), detector.finish())) > 0.1).any())

    def events(
        self, sources: Iterable[Recording], request: Request, on_seconds: OnSeconds = lambda seconds: None
    ) -> Iterator[Event]:
        if request.sequential:
            return sequentially(self, sources, self.check(request), on_seconds)
        return super().events(sources, request, on_seconds)

    def hear(self, windows: Sequence[Window], request: Request, languages: Sequence[str | None]) -> list[Transcript]:
        found = self._heard(windows, request, languages)
        # What was passed over is heard again by itself, and believed if it is no guess.
        missed = [(i, gap) for i, w in enumerate(windows) for gap in gaps(w, found[i].segments, self.sampling_rate)]
        if missed:
            spoken = [found[i].language for i, _ in missed]
            for (i, _), more in zip(missed, self._heard([gap for _, gap in missed], request, spoken), strict=True):
                if more.segments and (more.segments[0].confidence or 0.0) > SURE:
                    found[i] = merged(found[i], more)
        return found

    def _heard(self, windows: Sequence[Window], request: Request, languages: Sequence[str | None]) -> list[Transcript]:
        previous = self.tokenizer.encode(f" {request.initial_prompt.strip()}") if request.initial_prompt else []
        hearings = [
            Hearing(window, language, timestamps=False, previous=previous)
            for window, language in zip(windows, languages, strict=True)
        ]
        self.listen(hearings, request.task)
        return self.transcripts(hearings, request)

    @torch.inference_mode()
    def listen(self, hearings: Sequence[Hearing], task: str) -> None:
        """Fill in what is heard, pass by pass, until every text can be believed or there is nothing left to try."""
        self._pass(hearings, task, full=False, temperature=0.0)
        in_doubt = [h for h in hearings if self._in_doubt(h)]
        short = [h for h in in_doubt if self._size(h.window, full=False) < self._size(h.window, full=True)]
        self._pass(short, task, full=True, temperature=0.0)
        for temperature in self.doubt.temperatures:
            in_doubt = [h for h in in_doubt if self._in_doubt(h)]
            self._pass(in_doubt, task, full=True, temperature=temperature)

    def _pass(self, hearings: Sequence[Hearing], task: str, full: bool, temperature: float) -> None:
        if not hearings:
            return
        order = sorted(hearings, key=lambda h: self._size(h.window, full))
        for number, hypotheses in search_all(self._search(temperature), self._memories(order, task, full)):
            order[number].hypotheses, order[number].temperature = hypotheses, temperature

    def _search(self, temperature: float) -> Search:
        if temperature not in self.searches:
            sampling = replace(
                self.decoding,
                search="sampling",
                temperature=temperature,
                beam_size=max(self.doubt.best_of, self.decoding.nbest),
                **NOT_SAMPLED,
            )
            self.searches[temperature] = build_search(sampling, [self.model], self.tokenizer)
        return self.searches[temperature]

    def _in_doubt(self, hearing: Hearing) -> bool:
        doubt, tokens = self.doubt, hearing.best.tokens
        text = self.tokenizer.decode(tokens)
        if doubt.max_compression_ratio is not None and compression_ratio(text) > doubt.max_compression_ratio:
            return True
        if self._is_silence(hearing):
            return False
        if doubt.min_log_prob is not None and hearing.log_prob < doubt.min_log_prob:
            return True
        frames = (len(hearing.window.samples) + ALLOWANCE * self.sampling_rate) // self._samples_per_frame
        return len(tokens) >= int(frames * self.decoding.max_length_ratio) and hearing.temperature == 0.0

    def _is_silence(self, hearing: Hearing) -> bool:
        """Whether silence was heard, and a text that is a guess."""
        most, least = self.doubt.max_no_speech, self.doubt.min_log_prob
        return most is not None and hearing.no_speech_prob > most and (least is None or hearing.log_prob < least)

    @property
    def _samples_per_frame(self) -> int:
        return round(self.bundle.features.config.frame_shift * self.sampling_rate) * 2  # of the encoder

    def _size(self, window: Window, full: bool) -> int:
        """Samples of a window with the silence behind it."""
        most, step = round(FULL * self.sampling_rate), self._samples_per_frame
        size = len(window.samples) + round(self.tail * self.sampling_rate)
        return most if full else min(most, -(-size // step) * step)

    def _memories(self, hearings: Sequence[Hearing], task: str, full: bool) -> Iterator[Memory]:
        """Prompted memories of windows in the order of their sizes, as many at once as `max_batch_seconds` allows."""
        sizes = [self._size(hearing.window, full) for hearing in hearings]
        most = self.decoding.max_batch_seconds * self.sampling_rate
        start = 0
        for stop in range(1, len(hearings) + 1):
            if stop == len(hearings) or (stop + 1 - start) * sizes[stop] > most:
                yield self.prompted(hearings[start:stop], task, full)
                start = stop

    def prompted(self, hearings: Sequence[Hearing], task: str, full: bool = False) -> PromptedMemory:
        """The memory of windows with the prompts that say their languages, which are detected where nobody said."""
        self._encode(hearings, [self._size(hearing.window, full) for hearing in hearings])
        prepared = self.model.decoder.prepared(Memory.joined([h.memory for h in hearings if h.memory]))
        self._detect(hearings, prepared)
        return PromptedMemory.of(prepared, [self._prompt(hearing, task) for hearing in hearings])

    def _prompt(self, hearing: Hearing, task: str) -> list[int]:
        return self.tokenizer.prompt(hearing.language, task, hearing.timestamps, hearing.previous)

    def _encode(self, hearings: Sequence[Hearing], sizes: Sequence[int]) -> None:
        """Give windows their memories, where they have none of those sizes from a pass before."""
        new = [(hearing, size) for hearing, size in zip(hearings, sizes, strict=True) if hearing.size != size]
        if new:
            memory = self.encode([hearing.window.samples for hearing, _ in new], [size for _, size in new])
        for i, (hearing, size) in enumerate(new):
            hearing.memory, hearing.size = memory.rows(i, i + 1), size

    def encode(self, waveforms: Sequence[Tensor], sizes: Sequence[int]) -> Memory:
        """The memory of waveforms (n,), each with silence behind it up to its size in samples."""
        padded = [F.pad(samples, (0, max(0, n - len(samples)))) for samples, n in zip(waveforms, sizes, strict=True)]
        samples = pad_sequence(padded, batch_first=True)
        features, lengths = self.bundle.features(samples, torch.tensor([len(each) for each in padded]))
        device, dtype = self.parameter.device, self.parameter.dtype
        return self.model.encode(features.to(device, dtype), lengths.to(device))

    def _detect(self, hearings: Sequence[Hearing], memory: Memory) -> None:
        """Note how probable silence is in each window, and its language where nobody said."""
        tokens = memory.lengths.new_full((len(hearings), 1), self.tokenizer.sot_id)
        log_probs = self.model.decoder(memory, tokens)[:, 0].float()
        for hearing, silence in zip(hearings, log_probs[:, self.tokenizer.no_speech_id].exp().tolist(), strict=True):
            hearing.no_speech_prob = silence
        codes, ids = list(self.tokenizer.languages), list(self.tokenizer.languages.values())
        if self.tokenizer.is_multilingual:
            for hearing, best in zip(hearings, log_probs[:, ids].argmax(dim=-1).tolist(), strict=True):
                hearing.language = hearing.language or codes[best]

    def transcripts(self, hearings: Sequence[Hearing], request: Request) -> list[Transcript]:
        """What was heard in each window, in segments that are sentences, with the times of their words."""
        spoken = [hearing for hearing in hearings if self.is_spoken(hearing)]
        words = dict(zip(map(id, spoken), self.words(spoken, request), strict=True))
        return [self._transcript(hearing, words.get(id(hearing)), request) for hearing in hearings]

    def is_spoken(self, hearing: Hearing) -> bool:
        """Whether there is text, and it is not a guess at silence."""
        return not self._is_silence(hearing) and bool(self.tokenizer.decode(hearing.best.tokens).strip())

    @torch.inference_mode()
    def words(self, hearings: Sequence[Hearing], request: Request) -> Iterator[list[Word]]:
        """The words of each window, times from the start of its recording; their confidence where they are wanted."""
        for start in range(0, len(hearings), WORDS_AT_ONCE):
            group = hearings[start : start + WORDS_AT_ONCE]
            memory = self.model.decoder.prepared(Memory.joined([h.memory for h in group if h.memory]))
            texts, languages = [h.best.tokens for h in group], [h.language for h in group]
            seconds = [len(h.window.samples) / self.sampling_rate for h in group]
            wanted = request.word_timestamps
            found = word_times(self.model, self.tokenizer, memory, texts, languages, request.task, seconds, wanted)
            for hearing, words in zip(group, found, strict=True):
                yield [shifted(word, hearing.window.start) for word in words]

    def _transcript(self, hearing: Hearing, words: list[Word] | None, request: Request) -> Transcript:
        seconds, best = len(hearing.window.samples) / self.sampling_rate, hearing.best
        if words is None:
            return Transcript("", best.score, seconds, language=hearing.language)
        text = self.tokenizer.decode(best.tokens)
        segments = [
            self.segment(
                hearing, sentence, spoken[0].start, spoken[-1].end, spoken if request.word_timestamps else None
            )
            for sentence, spoken in sentences(text, words)
        ]
        return Transcript(
            text=text.strip(),
            score=best.score,
            seconds=seconds,
            scores=best.scores,
            words=words if request.word_timestamps else None,
            attention=best.attention,
            alternatives=[
                Transcript(self.tokenizer.decode(other.tokens).strip(), other.score, seconds, other.scores)
                for other in hearing.hypotheses[1:]
            ],
            segments=segments,
            language=hearing.language,
        )

    def segment(self, hearing: Hearing, text: str, start: float, end: float, words: list[Word] | None) -> Segment:
        """A stretch of a window's text."""
        return Segment(
            start=start,
            end=end,
            text=text,
            words=words,
            score=hearing.best.score,
            confidence=math.exp(min(0.0, hearing.log_prob)),
            language=hearing.language,
            temperature=hearing.temperature,
            no_speech_prob=hearing.no_speech_prob,
            compression_ratio=compression_ratio(text),
        )
