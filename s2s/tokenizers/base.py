"""What every tokenizer is: text to ids and back, with the same four special ids."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from s2s.errors import UserError
from s2s.files import replacing

BLANK_ID, UNK_ID, BOS_ID, EOS_ID = range(4)
SPECIAL_PIECES = ("<blank>", "<unk>", "<s>", "</s>")
SPACE = "\u2581"  # ▁, the visible piece of a space
DESCRIPTION = "tokenizer.json"


class Tokenizer(Protocol):
    """Text to ids and back. The CTC blank is id 0, then unknown 1, begin of sentence 2, end of sentence 3.

    Vocabularies of other people's weights have their own: `blank_id` or `unk_id` is -1 where there is none. So compare
    ids with them (`unk_id in ids` asks whether the text has what the vocabulary lacks), and do not index by them before
    asking: CTC needs a blank, n-gram models over the pieces (s2s/decoding/ngram.py, arpa.py) need both.
    """

    @property
    def kind(self) -> str:
        """The name that `load_tokenizer` knows it by, and `train_tokenizer` where it can be trained."""
        ...

    @property
    def vocab_size(self) -> int:
        """V, the special pieces included."""
        ...

    @property
    def blank_id(self) -> int: ...

    @property
    def unk_id(self) -> int: ...

    @property
    def bos_id(self) -> int: ...

    @property
    def eos_id(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """The ids of `normalise(text)`, no begin or end of sentence; what the vocabulary lacks is `unk_id`.

        Byte-level tokenizers lack nothing and take the text as it is, white space too.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; special ids are passed over. Raises ValueError for an id outside [0, V)."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of every id, special ones included. Raises ValueError for an id outside [0, V)."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the files `load_tokenizer` reads; other files in the folder stay."""
        ...


def normalise(text: str) -> str:
    """The text every tokenizer encodes: Unicode NFC, runs of white space (and ▁) as one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).replace(SPACE, " ").split())


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raise ValueError naming the first id outside [0, V): a negative one would silently count from the end."""
    for index in ids:
        if not 0 <= index < vocab_size:
            raise ValueError(f"id {index} is not in the vocabulary: expected 0 to {vocab_size - 1}")


def save_files(
    folder: str | os.PathLike[str],
    kind: str,
    vocab_size: int,
    model_name: str,
    model: bytes,
    more: Mapping[str, object] | None = None,
) -> None:
    """Write the model file, then the description that names its kind, with `more` keys of JSON.

    Raises UserError where it cannot.
    """
    folder = Path(folder)
    description = json.dumps({"kind": kind, "vocab_size": vocab_size, **(more or {})}, indent=2) + "\n"
    try:
        for name, content in ((model_name, model), (DESCRIPTION, description.encode())):
            with replacing(folder / name) as path:
                path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the tokenizer here: {error.strerror or error}") from error
