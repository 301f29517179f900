"""Subwords by sentencepiece: unigram (Kudo 2018, arXiv:1804.10959), BPE (Sennrich 2016, arXiv:1508.07909)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from s2s.errors import UserError, nearest
from s2s.tokenizers.base import (
    BLANK_ID,
    BOS_ID,
    EOS_ID,
    SPECIAL_PIECES,
    UNK_ID,
    check_ids,
    normalise,
    save_files,
)

KINDS = ("unigram", "bpe")
MODEL = "tokenizer.model"
# sentencepiece leaves out, without a word, any training line that holds one of these
_RESERVED = re.compile("[\0\u2585]")


class SentencePieceTokenizer:
    """Subword pieces of a sentencepiece model.

    `model` is the serialised model, `kind` "unigram" or "bpe". Raises ValueError where it is not a model with our
    special pieces at ids 0 to 3.
    """

    blank_id, unk_id, bos_id, eos_id = BLANK_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, model: bytes, kind: str) -> None:
        self.kind = kind
        if not model:  # sentencepiece takes it for "no model given"
            raise ValueError("an empty file, not a sentencepiece model")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("not a sentencepiece model") from error
        first = [self._processor.id_to_piece(index) for index in range(min(len(SPECIAL_PIECES), self.vocab_size))]
        if tuple(first) != SPECIAL_PIECES:
            raise ValueError(f"its first pieces are {' '.join(first)}, not {' '.join(SPECIAL_PIECES)}")

    @classmethod
    def train(
        cls, kind: str, lines: Iterable[str], vocab_size: int, character_coverage: float = 1.0
    ) -> SentencePieceTokenizer:
        """Learn exactly `vocab_size` pieces, special ones included; the same lines give the same model.

        `character_coverage` below 1 leaves the rarest characters unknown, as large alphabets such as kanji need.
        Raises UserError for an unknown kind, empty text, or a size that is too large or too small for the text.
        """
        if kind not in KINDS:
            raise UserError(
                f"unknown sentencepiece kind '{kind}': expected {' or '.join(KINDS)}.{nearest(kind, KINDS)}"
            )
        if not 0 < character_coverage <= 1:
            raise UserError(f"character_coverage must be above 0 and at most 1, not {character_coverage}")
        text = [line for line in (_RESERVED.sub("", normalise(line)) for line in lines) if line]
        if not text:
            raise UserError("no text to train a tokenizer on: every line is empty; give text with at least one word")
        # sentencepiece would lose the letters of "<unk>" and the like written out in the text
        alphabet = sorted(set().union(*text) - {" "}) if character_coverage == 1 else []
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(text),
                model_writer=model,
                model_type=kind,
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                required_chars="".join(alphabet),
                normalization_rule_name="identity",  # `normalise` is ours, the same for every tokenizer
                max_sentence_length=2**30,  # bytes; longer lines would be left out
                num_threads=4,  # fixed: the sums of the EM steps depend on it
                minloglevel=2,
                pad_id=BLANK_ID,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                pad_piece=SPECIAL_PIECES[BLANK_ID],
                unk_piece=SPECIAL_PIECES[UNK_ID],
                bos_piece=SPECIAL_PIECES[BOS_ID],
                eos_piece=SPECIAL_PIECES[EOS_ID],
            )
        except RuntimeError as error:
            raise UserError(_explain(str(error), kind, vocab_size)) from error
        return cls(model.getvalue(), kind)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], kind: str) -> SentencePieceTokenizer:
        """Read `tokenizer.model` of the folder. Raises UserError where it is absent or not a model of ours."""
        path = Path(folder) / MODEL
        try:
            return cls(path.read_bytes(), kind)
        except OSError as error:
            raise UserError(f"{path}: cannot read the model: {error.strerror or error}") from error
        except ValueError as error:
            raise UserError(f"{path}: {error}; train the tokenizer again") from error

    @property
    def vocab_size(self) -> int:
        return int(self._processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        return list(self._processor.encode(normalise(text)))

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(ids, self.vocab_size)
        return str(self._processor.decode([int(index) for index in ids if index >= len(SPECIAL_PIECES)]))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        check_ids(ids, self.vocab_size)
        return [self._processor.id_to_piece(int(index)) for index in ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.model` (readable by sentencepiece itself) and `tokenizer.json`."""
        save_files(folder, self.kind, self.vocab_size, MODEL, self._processor.serialized_model_proto())


def _explain(message: str, kind: str, vocab_size: int) -> str:
    """What a message of the sentencepiece trainer means for the user."""
    if found := re.search(r"too high .* <= (\d+)", message):
        return f"vocab_size {vocab_size} is too large for this text: the largest that works with {kind} is {found[1]}"
    if found := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"vocab_size {vocab_size} is too small for the characters of this text: the smallest that works is "
            f"{found[1]}; raise it, or leave rare characters unknown with a lower character_coverage (such as 0.9995)"
        )
    return f"sentencepiece cannot train a {kind} model of vocab_size {vocab_size}: {message}"
