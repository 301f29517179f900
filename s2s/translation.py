"""Text in, text in another language out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.search_all import search_all
from s2s.errors import UserError
from s2s.models.bundle import CONFIG
from s2s.models.memory import Memory
from s2s.models.prompts import Prompts
from s2s.models.translation_bundle import TranslationBundle, is_translation_bundle, load_translation_bundle
from s2s.nn.quantise import set_dtype
from s2s.pretrained import checkpoints
from s2s.pretrained.seq2seq import FAMILIES, find_checkpoint, read_seq2seq
from s2s.tokenizers.joint import prompt_tokens
from s2s.tokenizers.prompts import Prompt

MODE = "translation"
LOOK_AHEAD = 8
Source = str | tuple[str, ...]
"""A text, or the same in each of the languages that a model reads at once; one of these may be empty."""


@dataclass(frozen=True)
class Translation:
    """The translation of `source` with its score (natural log); the rest of the n best as `alternatives`.

    A source that holds nothing to read has an empty translation, with the score 0.
    """

    text: str
    score: float
    source: Source
    alternatives: list[Translation] = field(default_factory=list)


class Translator:
    """A translation model with a search.

    `decoding` is how it searches (default: as its makers do, see `decoding_of`), `target_language` one of the bundle's
    `languages`, where it has a choice; one that takes prompts is told the `source_language` too, and whether to write
    `punctuation`. `batch_tokens` source tokens are encoded at once, padding counted; so that these are of sentences
    alike in length, `look_ahead` times as many are read before the first is translated, 0: one text.
    Raises UserError for a language that the model lacks, and for a decoding that it cannot do.
    """

    def __init__(
        self,
        bundle: TranslationBundle,
        decoding: DecodingConfig | None = None,
        target_language: str | None = None,
        batch_tokens: int = 1000,
        look_ahead: int = LOOK_AHEAD,
        source_language: str | None = None,
        punctuation: bool = True,
    ) -> None:
        if batch_tokens < 1:
            raise UserError(f"batch_tokens={batch_tokens}: expected at least 1 token")
        self.bundle = bundle
        self.decoding = decoding or decoding_of(bundle.decoding)
        self.target_language = target_language
        self.batch_tokens, self.look_ahead = batch_tokens, look_ahead
        self.search = build_search(self.decoding, [bundle.model], bundle.tokenizer)
        self.device = next(bundle.model.parameters()).device
        positions = getattr(bundle.model.encoder, "positions", None)
        self.num_sources: int = getattr(bundle.model.encoder, "num_sources", 1)
        self.max_tokens: int | None = getattr(positions, "max_positions", None) or None
        self.asked = self._prompt(source_language, target_language, punctuation)
        if target_language is not None:
            bundle.tokenizer.encode_source("", target_language)

    def _prompt(self, source: str | None, target: str | None, punctuation: bool) -> Prompts | None:
        """What the decoder is told of a text; None for a model that takes no prompts."""
        tokens = prompt_tokens(self.bundle.tokenizer)
        if tokens is None:
            if source is not None or not punctuation:
                given = "punctuation" if source is None else f"language '{source}' to read"
                raise UserError(f"{given}: this model takes no prompts, it cannot be told; leave it out")
            return None
        if source is None or target is None:
            lacking = "source" if source is None else "target"
            raise UserError(
                f"this model reads and writes several languages; name both, the {lacking} too (--{lacking}-language): "
                f"{', '.join(tokens.languages)}"
            )
        return Prompts.of(tokens, [Prompt(source, target, punctuation=punctuation)]).to(self.device)

    def encode(self, text: str) -> list[int]:
        """What the encoder reads for a text; none for one that holds nothing to read, such as white space alone.

        Raises UserError for one that is too long for the model, and for one without a language where there is a choice.
        """
        if not text.strip():
            return []
        ids = self.bundle.tokenizer.encode_source(text, self.target_language)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise UserError(
                f"too long: {len(ids)} tokens, the model takes {self.max_tokens}; translate it a sentence at a time"
            )
        return ids

    def translate(self, texts: str | Iterable[Source]) -> Iterator[Translation]:
        """The translation of each text, in order; texts are read, and translated, when they are asked for.

        Raises UserError, with the number of the text, for one that `encode` refuses, and for one in more languages, or
        in fewer, than the model reads at once.
        """
        first = 1
        for window in self._windows([texts] if isinstance(texts, str) else texts):
            yield from self._translate(window, first)
            first += len(window)

    def _encode_all(self, text: Source) -> list[list[int]]:
        """What the encoder reads for each source of a text."""
        sources = (text,) if isinstance(text, str) else text
        if len(sources) != self.num_sources:
            raise UserError(f"the model reads {self.num_sources} sources at once, and was given {len(sources)}")
        return [self.encode(each) for each in sources]

    def _windows(self, texts: Iterable[Source]) -> Iterator[list[tuple[Source, list[list[int]]]]]:
        """Texts with their ids, as many as are read before they are translated."""
        window: list[tuple[Source, list[list[int]]]] = []
        size = 0
        for number, text in enumerate(texts, start=1):
            try:
                window.append((text, self._encode_all(text)))
            except UserError as error:
                raise UserError(f"text {number}: {error}") from error
            size += _longest(window[-1][1]) + 1
            if size >= self.look_ahead * self.batch_tokens:
                yield window
                window, size = [], 0
        if window:
            yield window

    @torch.inference_mode()
    def _translate(self, window: list[tuple[Source, list[list[int]]]], first: int) -> list[Translation]:
        """The translations of texts with their ids, of which the first has the number `first`."""
        found = [Translation("", 0.0, text) for text, _ in window]
        lengths = [_longest(ids) for _, ids in window]
        order = sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
        try:
            for number, hypotheses in search_all(self.search, self._memories([window[i][1] for i in order])):
                source = window[order[number]][0]
                best, *others = (self._translation(hypothesis, source) for hypothesis in hypotheses)
                found[order[number]] = replace(best, alternatives=others)
        except UtteranceError as error:
            raise UserError(f"text {first + order[error.utterance]}: {error.problem}") from error
        return found

    def _memories(self, texts: list[list[list[int]]]) -> Iterator[Memory]:
        """What the encoder makes of the ids of texts, longest first, in batches of `batch_tokens`."""
        while texts:
            size = max(1, self.batch_tokens // _longest(texts[0]))
            batch, texts = texts[:size], texts[size:]
            rows = [torch.tensor(ids, dtype=torch.long) for sources in batch for ids in sources]
            shape = (len(batch),) if self.num_sources == 1 else (len(batch), self.num_sources)
            padded = pad_sequence(rows, batch_first=True).unflatten(0, shape)
            lengths = torch.tensor([len(row) for row in rows]).view(shape)
            asked = () if self.asked is None else (self.asked.some([0] * len(batch)),)
            yield self.bundle.model.encode(padded.to(self.device), lengths.to(self.device), *asked)

    def _translation(self, hypothesis: Hypothesis, source: Source) -> Translation:
        return Translation(self.bundle.tokenizer.decode(hypothesis.tokens), hypothesis.score, source)


def _longest(sources: list[list[int]]) -> int:
    return max(map(len, sources))


def decoding_of(settings: Mapping[str, Any], mode: str = MODE) -> DecodingConfig:
    """A mode of conf/decoding, with the settings of a model's makers; another mode than ours has its own beam size.

    Raises UserError for a mode that needs a CTC output, and for values out of range.
    """
    chosen = load_decoding_config([f"decoding={mode}"])
    if mode == MODE:
        return replace(chosen, **settings)
    if chosen.search.startswith("ctc"):
        raise UserError(f"decoding={mode}: needs a CTC output, which translation models have not; take greedy or beam")
    ours = load_decoding_config([f"decoding={MODE}"])
    kept = {"length_power": ours.length_power, "max_length_ratio": ours.max_length_ratio, **settings}
    kept["beam_size"] = chosen.beam_size
    if chosen.search == "beam":
        kept["end_detection"] = ours.end_detection
    return replace(chosen, **kept)


def is_translation_model(model: str | os.PathLike[str]) -> bool:
    """Whether a folder is one that `load_translation_model` takes, by its config; False for names and other models."""
    folder = Path(model)
    if (folder / CONFIG).is_file():
        return is_translation_bundle(folder)
    config = folder / checkpoints.CONFIG
    return config.is_file() and checkpoints.read_json(config).get("model_type") in FAMILIES


def load_translation_model(
    model: str | os.PathLike[str], device: str | torch.device = "cpu", dtype: str = "float32"
) -> TranslationBundle:
    """The translation model that `model` names, in evaluation mode: a bundle, or what `find_checkpoint` takes.

    Weights that transformers wrote are read as they are; nothing is written. `dtype` is as in `set_dtype`. Raises
    UserError for what is none of these, or is broken, and for a dtype that cannot be had.
    """
    if (Path(model) / CONFIG).is_file():
        found = load_translation_bundle(model)
    else:
        found = read_seq2seq(find_checkpoint(os.fspath(model)))
    set_dtype(found.model.to(device), dtype)
    return found
