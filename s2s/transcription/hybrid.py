"""Transcription by a hybrid CTC/attention model, or several as an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.audio.windows import Window
from s2s.data.batch import Batch
from s2s.decoding.alignment import Word, label_spans, word_times
from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig
from s2s.decoding.ensemble import encode
from s2s.decoding.hypothesis import Hypothesis, Search, UtteranceError
from s2s.decoding.search_all import search_all
from s2s.errors import UserError
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel, Spoken
from s2s.models.lm_bundle import check_vocabulary
from s2s.models.memory import Memory
from s2s.models.prompts import Prompts
from s2s.models.segmental import SegmentalModel
from s2s.tokenizers.joint import prompt_tokens
from s2s.tokenizers.prompts import Prompt, PromptTokens
from s2s.transcription.recording import Audio, Recording
from s2s.transcription.request import Request
from s2s.transcription.sentences import shifted
from s2s.transcription.transcriber import Transcriber
from s2s.transcription.transcript import Segment, Transcript


class Aligned(NamedTuple):
    """When what was said in an utterance was said, in seconds."""

    pieces: list[str]  # of its tokens
    ends: list[float]  # of each of them
    words: list[Word]


class HybridTranscriber(Transcriber):
    """A bundle with a search: audio in, text out.

    `decoding` is how it searches (default: joint CTC/attention beam search, or that of a segmental model), `others` the
    other members of an ensemble.
    """

    def __init__(
        self,
        bundle: Bundle[HybridModel],
        decoding: DecodingConfig | None = None,
        others: Mapping[str, Bundle[HybridModel]] | None = None,
    ) -> None:
        self.bundle = bundle
        self.decoding = decoding or DecodingConfig("segmental" if isinstance(bundle.model, SegmentalModel) else "beam")
        for folder, other in (others or {}).items():
            check_vocabulary(other.tokenizer, bundle.tokenizer, f"decoding.ensemble: {folder}")
            if other.features.config != bundle.features.config:
                raise UserError(f"decoding.ensemble: {folder}: its features are not those of the first bundle")
        self.models = [bundle.model, *(other.model for other in (others or {}).values())]
        self.search = build_search(self.decoding, self.models, bundle.tokenizer)
        self.device = next(bundle.model.parameters()).device
        self.seconds_per_frame = bundle.features.config.frame_shift * bundle.model.encoder.subsampling_factor
        self.at_once = self.decoding.batch_size

    @cached_property
    def timed_search(self) -> Search:
        """The same search, which also says when each word was said."""
        return build_search(replace(self.decoding, token_times=True), self.models, self.bundle.tokenizer)

    @property
    def sampling_rate(self) -> int:
        return self.bundle.features.config.sampling_rate

    def check(self, request: Request) -> Request:
        """UserError for what only a multilingual model, or one that takes prompts, can do."""
        given = {
            "language": request.language,
            "task": request.task if request.task != "transcribe" else None,
            "target_language": request.target_language,
            "punctuation": None if request.punctuation else "no",
        }
        refused: dict[str, object] = {"initial_prompt": request.initial_prompt, "sequential": request.sequential}
        for name, value in refused.items() if self.prompts else {**given, **refused}.items():
            if value:
                takes = "no text before" if self.prompts else "no prompt"
                raise UserError(f"{name}={value}: this model knows one task and takes {takes}; leave it out")
        if self.prompts is None:
            return replace(request, language="")
        self.prompts.encode(self.prompt(request.language, request))
        self.search_for(request.task, request.word_timestamps)
        return request

    @property
    def prompts(self) -> PromptTokens | None:
        """The tokens of the model's prompts; None where it takes none."""
        return prompt_tokens(self.bundle.tokenizer)

    def prompt(self, language: str | None, request: Request) -> Prompt:
        """What a request asks for speech in a language; UserError where it does not say which one to hear or write."""
        known = ", ".join(self.prompts.languages) if self.prompts else "none"
        if language is None:
            raise UserError(f"language: this model has to be told what is spoken; it knows {known}")
        target = request.target_language
        if request.task == "transcribe":
            if target not in (None, language):
                raise UserError(f"target_language={target}: to write another language than is spoken is task=translate")
            target = language
        if target is None:
            raise UserError(f"target_language: this model has to be told into what to translate; it knows {known}")
        return Prompt(language, target, request.task, request.punctuation)

    def asked(self, languages: Sequence[str | None], request: Request) -> Prompts | None:
        """What a request asks for speech in each of some languages; None for a model that takes no prompts."""
        if self.prompts is None:
            return None
        return Prompts.of(self.prompts, [self.prompt(language or None, request) for language in languages])

    def search_for(self, task: str, timed: bool = False) -> Search:
        """The search of a task, which also says when each word was said where it is to be `timed`.

        Raises UserError for a decoding that cannot do the task.
        """
        if self.decoding_for(task) is self.decoding:
            return self.timed_search if timed else self.search
        if timed:
            raise UserError("word_timestamps: this model's CTC output hears what is said, not what it writes of that")
        return self.translating_search

    @cached_property
    def translating_search(self) -> Search:
        """The search of translations, where it is another one."""
        return build_search(self.decoding_for("translate"), self.models, self.bundle.tokenizer)

    def decoding_for(self, task: str) -> DecodingConfig:
        """The decoding of a task: of a translation without the CTC output, where that learned what is said.

        Raises UserError where nothing would be left.
        """
        config = self.decoding
        model = self.bundle.model
        if model.ctc_text == "target" or (self.prompts and task == "transcribe" and model.text_encoder is None):
            return config
        if config.search.startswith("ctc") or config.rescore or config.token_times:
            what = "token_times=true" if config.token_times else f"search={config.search}"
            raise UserError(
                f"decoding.{what}: this model's CTC output learned what is said, not its translation; choose "
                "decoding=joint (which then leaves it out), beam, greedy or sampling"
            )
        return replace(config, ctc_weight=0.0)

    @torch.inference_mode()
    def hear(self, windows: Sequence[Window], request: Request, languages: Sequence[str | None]) -> list[Transcript]:
        for window in windows:
            if self.bundle.features.num_frames(len(window.samples)) < 1:
                seconds = len(window.samples) / self.sampling_rate
                raise UserError(f"{seconds:.3f} s of audio are shorter than one frame of features; nothing to hear")
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].samples))
        search = self.search_for(request.task, request.word_timestamps)
        asked = self.asked([languages[i] for i in order], request)
        found: dict[int, Transcript] = {}
        for number, hypotheses in search_all(search, self._memories([windows[i].samples for i in order], asked)):
            i = order[number]
            best, *others = (self._of_window(hypothesis, windows[i]) for hypothesis in hypotheses)
            found[i] = replace(best, alternatives=others)
        return [found[i] for i in range(len(windows))]

    def _memories(self, waveforms: Sequence[Tensor], asked: Prompts | None = None) -> Iterator[Memory]:
        """Memories of waveforms (n,) in the order of their lengths, as many at once as `max_batch_seconds` allows."""
        most = self.decoding.max_batch_seconds * self.sampling_rate
        start = 0
        for stop in range(1, len(waveforms) + 1):
            if stop == len(waveforms) or (stop + 1 - start) * len(waveforms[stop]) > most:
                lengths = torch.tensor([len(samples) for samples in waveforms[start:stop]])
                samples = pad_sequence(list(waveforms[start:stop]), batch_first=True)
                features, frames = self.bundle.features(samples, lengths)
                yield self._encode(features, frames, None if asked is None else asked.rows(start, stop))
                start = stop

    def _encode(
        self, features: Tensor, lengths: Tensor, asked: Prompts | None = None, spoken: Spoken | None = None
    ) -> Memory:
        asked = None if asked is None else asked.to(self.device)
        if spoken is not None:
            spoken = spoken[0].to(self.device), spoken[1].to(self.device)
        features, lengths = features.to(self.device), lengths.to(self.device)
        return encode(self.models, features, lengths, self.decoding.chunks, asked, spoken)

    def _of_window(self, hypothesis: Hypothesis, window: Window) -> Transcript:
        seconds = len(window.samples) / self.sampling_rate
        made = self._transcript(hypothesis, seconds)
        start, end = window.speech[0][0], window.speech[-1][1]
        words = made.words
        if words is not None:
            words = [shifted(word, window.start) for word in words]
        segments = [Segment(start, end, made.text, words, made.score)] if made.text.strip() else []
        return replace(made, words=words, segments=segments)

    def transcribe_batches(
        self, batches: Iterable[Batch], task: str = "transcribe"
    ) -> Iterator[tuple[str, Transcript]]:
        """(id, transcript) of every utterance of batches of features, as soon as it is known, in no order.

        A batch is asked for when there is place for more of its utterances. To a model that takes prompts, `task` is
        that of what all of them ask for.
        """
        search = self.search_for(task)
        shift = self.bundle.features.config.frame_shift
        return self._decode(
            search,
            (
                (
                    batch.ids,
                    self._encode(batch.source, batch.source_lengths, batch.asked, batch.spoken),
                    _seconds(batch, shift),
                )
                for batch in batches
                if len(batch)
            ),
        )

    def align(self, audio: Audio, text: str) -> list[Word]:
        """When each word of `text` was said in a recording, by the best path of the CTC output through its tokens.

        Raises UserError for a text that needs more frames than the audio has, or characters that the tokenizer lacks.
        """
        recording = Recording.of(audio)
        samples = torch.cat(list(recording.blocks(self.sampling_rate)))
        features, lengths = self.bundle.features(samples.unsqueeze(0), torch.tensor([len(samples)]))
        tokens = torch.tensor([self.bundle.tokenizer.encode(text)], dtype=torch.long)
        size, seconds = torch.tensor([tokens.size(1)]), len(samples) / self.sampling_rate
        return self.align_batch(Batch([recording.name], features, lengths, tokens, size, [text], seconds, []))[0][
            1
        ].words

    @torch.inference_mode()
    def align_batch(self, batch: Batch) -> list[tuple[str, Aligned]]:
        """(id, tokens and words) of every utterance of a batch of features with targets."""
        if not len(batch):
            return []
        tokenizer, model = self.bundle.tokenizer, self.bundle.model
        targets = [row[:size].tolist() for row, size in zip(batch.target, batch.target_lengths.tolist(), strict=True)]
        for name, tokens, text in zip(batch.ids, targets, batch.texts, strict=True):
            if tokenizer.unk_id in tokens:
                raise UserError(f"{name}: '{text}' has characters that the tokenizer lacks; write it as in training")
        memory = model.encode(batch.source.to(self.device), batch.source_lengths.to(self.device))
        try:
            spans = label_spans(model, memory, targets)
        except UtteranceError as error:
            raise UserError(f"{batch.ids[error.utterance]}: {error.problem}") from error
        found = []
        for name, tokens, frames in zip(batch.ids, targets, spans, strict=True):
            pieces = tokenizer.pieces(tokens)
            ends = [end * self.seconds_per_frame for _, end in frames]
            found.append((name, Aligned(pieces, ends, word_times(pieces, frames, self.seconds_per_frame))))
        return found

    @torch.inference_mode()
    def _decode(
        self, search: Search, batches: Iterable[tuple[Sequence[str], Memory, list[float]]]
    ) -> Iterator[tuple[str, Transcript]]:
        """Ids, memories and seconds of batches -> (id, transcript) of each utterance."""
        names: list[str] = []
        seconds: list[float] = []

        def memories() -> Iterator[Memory]:
            for ids, memory, durations in batches:
                names.extend(ids)
                seconds.extend(durations)
                yield memory

        try:
            for number, hypotheses in search_all(search, memories()):
                best, *others = (self._transcript(hypothesis, seconds[number]) for hypothesis in hypotheses)
                yield names[number], replace(best, alternatives=others)
        except UtteranceError as error:
            raise UserError(f"{names[error.utterance]}: {error.problem}") from error

    def _transcript(self, hypothesis: Hypothesis, seconds: float) -> Transcript:
        tokenizer, words = self.bundle.tokenizer, None
        if hypothesis.frames is not None:
            words = word_times(tokenizer.pieces(hypothesis.tokens), hypothesis.frames, self.seconds_per_frame)
        text = tokenizer.decode(hypothesis.tokens)
        return Transcript(text, hypothesis.score, seconds, hypothesis.scores, words, hypothesis.attention)


def _seconds(batch: Batch, shift: float) -> list[float]:
    return [shift * n for n in batch.source_lengths.tolist()]
