"""ARPA text files of back-off n-gram models whose words are the pieces of a tokenizer."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s2s.errors import UserError
from s2s.tokenizers.base import Tokenizer

GZIP = b"\x1f\x8b"
UNK, BOS, EOS = "<unk>", "<s>", "</s>"
LN10 = math.log(10.0)
_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")


@dataclass(frozen=True)
class Ngrams:
    """The M n-grams of order U as token ids (M,U), their log-probabilities and back-off weights, natural logs (M,)."""

    tokens: Tensor
    log_probs: Tensor
    backoffs: Tensor


def read_arpa(path: str | os.PathLike[str], tokenizer: Tokenizer) -> list[Ngrams]:
    """The n-grams of each order of a UTF-8 file, plain or gzip, from unigrams on; log10 becomes natural logs, float64.

    The words are pieces of the tokenizer, <s>, </s> and <unk> (or <UNK>) its bos, eos and unk; what precedes `\\data\\`
    is passed over. Raises UserError, with file and line, for what is not of the format or is cut short, numbers that
    are no log-probabilities, n-grams that come twice, and words that are not pieces of the tokenizer.
    """
    lines = _lines(path)
    marks = [index for index, line in enumerate(lines) if line.startswith(b"\\")]
    if not marks or lines[marks[0]].rstrip() != b"\\data\\":
        raise UserError(
            f"{path}:{marks[0] + 1 if marks else 1}: no \\data\\ header: expected an ARPA text file, plain or gzip "
            "(or, for the kenlm package, one that its build_binary wrote)"
        )
    header = marks[0] + 1
    counts = _counts(path, lines[header : marks[1] if len(marks) > 1 else None], header)
    sections = [f"\\{order}-grams:" for order in range(1, len(counts) + 1)]
    for mark, expected in zip(marks[1:], [*sections, "\\end\\"], strict=False):
        if lines[mark].rstrip() != expected.encode():
            raise UserError(
                f"{path}:{mark + 1}: '{_text(lines[mark])}', expected {expected}: the header lists {len(counts)} orders"
            )
    if len(marks) < len(sections) + 2:
        raise UserError(
            f"{path}:{len(lines)}: the file ends without \\end\\: it is cut short; copy it or make it again"
        )

    vocabulary = _unigram_vocabulary(path, lines, marks[1] + 1, marks[2], tokenizer)
    ngrams = []
    for order, count in enumerate(counts, start=1):
        start, end = marks[order] + 1, marks[order + 1]
        ngrams.append(_section(path, lines, start, end, order, vocabulary, highest=order == len(counts)))
        if len(ngrams[-1].tokens) != count:
            raise UserError(
                f"{path}:{start}: {sections[order - 1]} has {len(ngrams[-1].tokens)} n-grams, the header says {count}: "
                "the file was changed or cut; make it again"
            )
    return ngrams


def words_of(tokenizer: Tokenizer) -> list[str]:
    """What a language model calls each of the V tokens."""
    words = tokenizer.pieces(range(tokenizer.vocab_size))
    words[tokenizer.unk_id], words[tokenizer.bos_id], words[tokenizer.eos_id] = UNK, BOS, EOS
    return words


def check_words(where: str, words: Collection[str], known: Iterable[str]) -> None:
    """Raise UserError where some `words` of a language model are not among the `known` ones of the tokenizer."""
    known = {*known, UNK.upper()}
    unknown = [word for word in words if word not in known]
    if unknown:
        raise UserError(
            f"{where}: the language model and the tokenizer do not match: {len(unknown)} of {len(words)} words are not "
            f"pieces of the tokenizer ({' '.join(unknown[:5])}{' ...' * (len(unknown) > 5)}); train the language model "
            "on text encoded with this tokenizer (`s2s tokenizer encode --pieces`)"
        )


def _lines(path: str | os.PathLike[str]) -> list[bytes]:
    try:
        data = Path(path).read_bytes()
        if data.startswith(GZIP):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot read it: {getattr(error, 'strerror', None) or error}") from error
    if not data.strip():
        raise UserError(f"{path}:1: the file is empty: expected an ARPA text file, which has a \\data\\ header")
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    if b"\\data\\" in data:  # else it is no ARPA file, whatever its encoding
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = len(data[: error.start + 1].splitlines())
            raise UserError(f"{path}:{line}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
    return lines


def _counts(path: str | os.PathLike[str], lines: list[bytes], start: int) -> list[int]:
    """How many n-grams of each order the header promises."""
    counts: list[int] = []
    for number, line in enumerate(lines, start=start + 1):
        if not line.strip():
            continue
        found = _COUNT.fullmatch(line.strip())
        if not found or int(found[1]) != len(counts) + 1:
            raise UserError(f"{path}:{number}: '{_text(line)}', expected `ngram {len(counts) + 1}=COUNT` or a section")
        counts.append(int(found[2]))
    if not counts:
        raise UserError(f"{path}:{start}: the header has no counts: expected `ngram 1=COUNT` and so on after \\data\\")
    return counts


def _unigram_vocabulary(
    path: str | os.PathLike[str], lines: list[bytes], start: int, end: int, tokenizer: Tokenizer
) -> dict[bytes, int]:
    """The token of each word that has a unigram."""
    words = {}  # and the line each is on
    for number, line in enumerate(lines[start:end], start=start + 1):
        fields = line.split(maxsplit=2)
        if len(fields) > 1:
            words[fields[1].decode()] = number
    tokens = {word: token for token, word in enumerate(words_of(tokenizer))}
    tokens[UNK.upper()] = tokens[UNK]
    first_unknown = next((number for word, number in words.items() if word not in tokens), start)
    check_words(f"{path}:{first_unknown}", words, tokens)
    for mark in (BOS, EOS):
        if mark not in words:
            raise UserError(f"{path}:{start}: no {mark} among the 1-grams: expected a model of whole sentences")
    return {word.encode(): tokens[word] for word in words}


def _section(
    path: str | os.PathLike[str],
    lines: list[bytes],
    start: int,
    end: int,
    order: int,
    vocabulary: Mapping[bytes, int],
    highest: bool,
) -> Ngrams:
    """The n-grams of lines[start:end]."""
    tokens, numbers, log_probs, backoffs = array("q"), array("q"), array("d"), array("d")
    for number, line in enumerate(lines[start:end], start=start + 1):
        fields = line.split()
        if not fields:
            continue
        if not order < len(fields) <= order + 2:
            words = "a word" if order == 1 else f"{order} words"
            raise UserError(
                f"{path}:{number}: {len(fields)} fields, expected a log10 probability, {words}"
                + (" and nothing more" if highest else " and perhaps a back-off weight")
            )
        log_prob = _number(fields[0])
        if not log_prob <= 0.0:  # NaN too
            raise UserError(f"{path}:{number}: '{_text(fields[0])}', expected a log10 probability, 0 or less")
        backoff = _number(fields[-1]) if len(fields) == order + 2 else 0.0
        if not math.isfinite(backoff):
            raise UserError(f"{path}:{number}: '{_text(fields[-1])}', expected a back-off weight (log10)")
        if highest and backoff:
            raise UserError(
                f"{path}:{number}: back-off weight {_text(fields[-1])}, expected none for n-grams of the highest order"
            )
        try:
            tokens.extend([vocabulary[word] for word in fields[1 : order + 1]])
        except KeyError as error:
            raise UserError(
                f"{path}:{number}: '{_text(error.args[0])}' is not among the 1-grams: expected every word there"
            ) from None
        numbers.append(number)
        log_probs.append(log_prob)
        backoffs.append(backoff)

    table = np.array(tokens).reshape(-1, order)
    by_tokens = np.lexsort(table.T)  # equal ones adjacent, in the order of the file
    repeats = (table[by_tokens[1:]] == table[by_tokens[:-1]]).all(axis=1).nonzero()[0]
    if len(repeats):
        first, again = (numbers[int(i)] for i in by_tokens[repeats[0] : repeats[0] + 2])
        raise UserError(f"{path}:{again}: this {order}-gram is already on line {first}: keep one of them")
    return Ngrams(torch.from_numpy(table), *(torch.from_numpy(np.array(x) * LN10) for x in (log_probs, backoffs)))


def _number(field: bytes) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan


def _text(field: bytes) -> str:
    return field.decode("utf-8", errors="replace").strip()
