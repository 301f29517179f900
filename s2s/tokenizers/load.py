"""A tokenizer from a name and text, or from the folder it was saved to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from s2s.errors import UserError, nearest
from s2s.tokenizers.bart import BartTokenizer
from s2s.tokenizers.base import DESCRIPTION, Tokenizer
from s2s.tokenizers.character import CharacterTokenizer
from s2s.tokenizers.joint import PIECES, JointTokenizer, read_words
from s2s.tokenizers.lexicon import Lexicon, LexiconTokenizer
from s2s.tokenizers.listed import ListedTokenizer
from s2s.tokenizers.marian import MarianTokenizer
from s2s.tokenizers.sentencepiece import KINDS as SENTENCEPIECE_KINDS
from s2s.tokenizers.sentencepiece import SentencePieceTokenizer
from s2s.tokenizers.whisper import WhisperTokenizer
from s2s.tokenizers.word import WordTokenizer

_LISTED: dict[str, type[ListedTokenizer]] = {each.kind: each for each in (CharacterTokenizer, WordTokenizer)}
KINDS = (*_LISTED, *SENTENCEPIECE_KINDS)
"""The kinds that can be trained on text alone."""

_OTHERS: dict[str, type[WhisperTokenizer | MarianTokenizer | BartTokenizer]] = {
    "whisper": WhisperTokenizer,
    "marian": MarianTokenizer,
    "bart": BartTokenizer,
}
_TRAINED_KINDS = (*KINDS, LexiconTokenizer.kind)
_LOADED_KINDS = (*_TRAINED_KINDS, *_OTHERS, JointTokenizer.kind)


def train_tokenizer(
    kind: str,
    lines: Iterable[str],
    vocab_size: int | None = None,
    character_coverage: float = 1.0,
    lexicon: Lexicon | None = None,
) -> Tokenizer:
    """Learn a tokenizer from lines of text.

    `kind` is "char", "word" or, with a `lexicon`, "lexicon" (vocab_size: at most so many pieces, all there are without
    it), "unigram" or "bpe" (vocab_size: exactly so many). Raises UserError for an unknown kind, a vocabulary size the
    text cannot have, or empty text.
    """
    _check_kind(kind, _TRAINED_KINDS)
    if kind not in SENTENCEPIECE_KINDS and character_coverage != 1:
        raise UserError(f"character_coverage is for unigram and bpe; limit a {kind} tokenizer with vocab_size")
    if kind == LexiconTokenizer.kind:
        if lexicon is None:
            raise UserError("a lexicon tokenizer needs its pronunciations: --lexicon FILE")
        return LexiconTokenizer.train(lines, lexicon, vocab_size)
    if kind in _LISTED:
        return _LISTED[kind].train(lines, vocab_size)
    if vocab_size is None:
        raise UserError(f"a {kind} tokenizer needs a vocab_size, such as 500")
    return SentencePieceTokenizer.train(kind, lines, vocab_size, character_coverage)


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Read a tokenizer that was saved to the folder. Raises UserError where there is none or its files disagree."""
    path = Path(folder) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        kind, vocab_size = description["kind"], description["vocab_size"]
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path}: cannot read it ({reason}): expected a folder that `s2s tokenizer train` wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: expected {{"kind": "...", "vocab_size": ...}}: train the tokenizer again, or restore the file'
        ) from error
    _check_kind(kind, _LOADED_KINDS, f"{path}: ")
    tokenizer: Tokenizer
    if kind in _OTHERS:
        tokenizer = _OTHERS[kind].load(folder)
    elif kind == LexiconTokenizer.kind:
        tokenizer = LexiconTokenizer.load(folder)
    elif kind == JointTokenizer.kind:
        tokenizer = _joint(folder)
    else:
        tokenizer = _LISTED[kind].load(folder) if kind in _LISTED else SentencePieceTokenizer.load(folder, kind)
    if tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"{folder}: {DESCRIPTION} says {vocab_size} pieces, the model file has {tokenizer.vocab_size}: "
            "the files are from two tokenizers; train it again, or restore the folder"
        )
    return tokenizer


def _joint(folder: str | os.PathLike[str]) -> JointTokenizer:
    try:
        return JointTokenizer(load_tokenizer(Path(folder) / PIECES), *read_words(folder))
    except ValueError as error:
        raise UserError(f"{folder}: {error}; restore the folder") from error


def _check_kind(kind: object, kinds: Sequence[str], where: str = "") -> None:
    if kind not in kinds:
        raise UserError(
            f"{where}unknown tokenizer kind '{kind}': expected {', '.join(kinds)}.{nearest(str(kind), kinds)}"
        )
