"""Byte-level BPE as in GPT-2 (Radford 2019; Sennrich 2016, arXiv:1508.07909), from the files others keep it in."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2s.errors import UserError

# GPT-2's pieces, across which nothing is merged: English clitics, letters, digits and the rest, one space before each.
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPECIAL = re.compile(r"<\|.*\|>")

# GPT-2 writes a byte as one visible character: itself where it is visible in Latin-1, else the next from 256 on.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
_BYTES = {chr(byte): byte for byte in _VISIBLE} | {chr(256 + i): byte for i, byte in enumerate(_HIDDEN)}


class ByteBPE:
    """Text to ids and back without loss: tokens are strings of bytes, merged where two together are a token.

    `ids` are the tokens with their ids, in order of merging, each of the 256 bytes among them. `special` are the names
    and ids of what else the vocabulary holds: they are not looked for in text, and decode to none. Raises ValueError
    for a byte that is missing and for an id that comes twice.
    """

    def __init__(self, ids: Mapping[bytes, int], special: Mapping[str, int] | None = None) -> None:
        import tiktoken

        self.special = dict(special or {})
        self._ids = list(ids.values())  # by rank: the place in the order of merging
        self._tokens = {index: token for token, index in ids.items()}
        missing = [byte for byte in range(256) if bytes([byte]) not in ids]
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes are not among the tokens, such as {missing[0]:#04x}")
        seen: set[int] = set()
        for index in (*self._ids, *self.special.values()):
            if index in seen:
                raise ValueError(f"id {index} is there twice")
            seen.add(index)
        ranks = {token: rank for rank, token in enumerate(ids)}
        self._encoding = tiktoken.Encoding("byte_bpe", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})

    @classmethod
    def from_tokenizer_json(cls, path: str | os.PathLike[str]) -> ByteBPE:
        """Read `tokenizer.json` of Hugging Face, merges as "a b" or as pairs. Raises UserError naming file and key."""
        content = _read_json(path)
        vocabulary, added = _vocabulary_of(content, path)
        merges = _member(content["model"], "merges", list, f"{path}: model.")
        places = [f"{path}: model.merges[{i}]" for i in range(len(merges))]
        return _merged(vocabulary, added, zip(places, merges, strict=True), path)

    @classmethod
    def from_vocab_and_merges(cls, vocab: str | os.PathLike[str], merges: str | os.PathLike[str]) -> ByteBPE:
        """Read `vocab.json`, `added_tokens.json` where that is beside it, and `merges.txt` (GPT-2, BART).

        Raises UserError naming file and key or line.
        """
        lines = [(f"{merges}:{number}", line) for number, line in enumerate(_read_lines(merges), start=1)]
        if lines and lines[0][1].startswith("#version"):
            del lines[0]
        return _merged(*_read_vocabulary(vocab), lines, vocab)

    @classmethod
    def from_vocabulary(cls, path: str | os.PathLike[str]) -> ByteBPE:
        """Read a vocabulary whose ids are in order of merging, as Whisper's are; merges are not read.

        The file is `tokenizer.json` or `vocab.json` of Hugging Face, or all tokens in order of id, as a list in JSON or
        one a line (CTranslate2). Added tokens and those of the form <|name|> are special. Raises UserError naming file
        and key or line.
        """
        vocabulary, special = _read_vocabulary(path)
        special |= {name: index for name, index in vocabulary.items() if _SPECIAL.fullmatch(name)}
        names = sorted(vocabulary.keys() - special.keys(), key=lambda name: vocabulary[name])
        return _made({_token(name, path): vocabulary[name] for name in names}, special, path)

    @classmethod
    def from_tiktoken(cls, path: str | os.PathLike[str]) -> ByteBPE:
        """Read lines of a token in base64, its rank, and its id where that is another; "=" is the empty token.

        Raises UserError naming file and line.
        """
        entries: dict[bytes, tuple[int, int]] = {}  # rank, id
        for number, line in enumerate(_read_lines(path), start=1):
            try:
                encoded, *numbers = line.split(" ", 2)
                token = b"" if encoded == "=" else base64.b64decode(encoded, validate=True)
                entry = int(numbers[0]), int(numbers[-1])
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"{path}:{number}: expected a token in base64, a space and its rank, not '{line[:80]}'"
                ) from error
            if token in entries or min(entry) < 0:
                raise UserError(f"{path}:{number}: the token is there before, or a number is below 0: '{line[:80]}'")
            entries[token] = entry
        ordered = sorted(entries, key=lambda token: entries[token])
        return _made({token: entries[token][1] for token in ordered}, {}, path)

    def to_tiktoken(self) -> bytes:
        """The file that `from_tiktoken` reads; special tokens are not in it."""
        lines = []
        for rank, index in enumerate(self._ids):
            encoded = base64.b64encode(self._tokens[index]).decode() or "="
            lines.append(f"{encoded} {rank}\n" if index == rank else f"{encoded} {rank} {index}\n")
        return "".join(lines).encode()

    @property
    def vocab_size(self) -> int:
        """One above the largest id, special ones included."""
        return 1 + max(*self._ids, *self.special.values())

    def encode(self, text: str) -> list[int]:
        """The ids of the text as it is."""
        return [self._ids[rank] for rank in self._encoding.encode_ordinary(text)]

    def __contains__(self, index: int) -> bool:
        """Whether an id is that of a token, not a special one."""
        return index in self._tokens

    def token_bytes(self, index: int) -> bytes:
        """The bytes of a token, often part of a character; none for any other id."""
        return self._tokens.get(index, b"")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 give U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


def _merged(
    vocabulary: Mapping[str, int],
    special: Mapping[str, int],
    merges: Iterable[tuple[str, object]],
    path: str | os.PathLike[str],
) -> ByteBPE:
    """The bytes, then what each merge makes; it comes with its place in a file. Other names are special."""
    made = dict.fromkeys(name for name in _BYTES if name in vocabulary)
    for where, merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) and name for name in pair)):
            raise UserError(f"{where}: expected two tokens to merge, not '{str(merge)[:80]}'")
        name = "".join(pair)
        if name not in vocabulary:
            raise UserError(f"{where}: '{name}' is not in the vocabulary; take both from the same tokenizer")
        made.setdefault(name)
    rest = {name: index for name, index in vocabulary.items() if name not in made}
    return _made({_token(name, path): vocabulary[name] for name in made}, rest | dict(special), path)


def _made(ids: Mapping[bytes, int], special: Mapping[str, int], path: str | os.PathLike[str]) -> ByteBPE:
    try:
        return ByteBPE(ids, special)
    except ValueError as error:
        raise UserError(f"{path}: not a whole byte-level vocabulary: {error}; restore the file") from error


def _token(name: str, path: str | os.PathLike[str]) -> bytes:
    try:
        return bytes([_BYTES[character] for character in name])
    except KeyError as error:
        raise UserError(
            f"{path}: token '{name}' has a character, {error}, that stands for no byte: expected GPT-2's alphabet"
        ) from error


def _read_vocabulary(path: str | os.PathLike[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Names and ids of a vocabulary in any of its files, and those of the tokens that were added to it."""
    path = Path(path)
    if path.suffix == ".txt":
        return _numbered(_read_lines(path), path), {}
    content = _read_json(path)
    if isinstance(content, list):
        return _numbered(content, path), {}
    if isinstance(content, dict) and not isinstance(content.get("model"), dict):  # it may be a token
        beside = path.with_name("added_tokens.json")
        added = _checked_ids(_read_json(beside), f"{beside}: ") if beside.is_file() else {}
        return _checked_ids(content, f"{path}: "), added
    return _vocabulary_of(content, path)


def _vocabulary_of(content: Any, path: str | os.PathLike[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The same of what `tokenizer.json` holds."""
    model = _member(content, "model", dict, f"{path}: ")
    vocabulary = _checked_ids(_member(model, "vocab", dict, f"{path}: model."), f"{path}: model.vocab.")
    split = content.get("pre_tokenizer")
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    is_plain = isinstance(split, dict) and plain.items() <= {"use_regex": True, **split}.items()
    if not is_plain or content.get("normalizer") is not None:
        raise UserError(f"{path}: expected a ByteLevel pre_tokenizer without add_prefix_space, and no normalizer")
    added = {}
    for i, token in enumerate(_member(content, "added_tokens", list, f"{path}: ")):
        where = f"{path}: added_tokens[{i}]."
        added[_member(token, "content", str, where)] = _member(token, "id", int, where)
    return vocabulary, added


def _numbered(names: list[Any], path: Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str) or name in ids:
            raise UserError(f"{path}: token {index}, {name!r}, is no text or is there before; restore the file")
        ids[name] = index
    return ids


def _checked_ids(content: Any, where: str) -> dict[str, int]:
    if not isinstance(content, dict):
        raise UserError(f"{where.rstrip('. ')}: expected tokens with their ids")
    for name, index in content.items():
        if not isinstance(index, int) or index < 0:
            raise UserError(f"{where}{name}: expected an id, not {index!r}")
    return content


def _member(content: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(content, dict) or not isinstance(content.get(key), kind):
        raise UserError(f"{where}{key}: missing, or of the wrong kind: expected a tokenizer.json of byte-level BPE")
    return content[key]


def _read_json(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}; restore the file") from error


def _read_lines(path: str | os.PathLike[str]) -> list[str]:
    text = _read(path).replace("\r\n", "\n").removesuffix("\n")
    return text.split("\n") if text else []


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot read the vocabulary: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); restore the file") from error
