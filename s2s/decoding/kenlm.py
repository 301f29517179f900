"""Binary n-gram models of KenLM (Heafield 2011), through its package."""

from __future__ import annotations

import importlib
import mmap
import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from s2s.decoding.arpa import LN10, UNK, check_words, read_arpa, words_of
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.tokenizers.base import Tokenizer

MAGIC = b"mmap lm http://kheafield.com/code"
NEVER = float("-inf")


class KenLMScorer:
    """The log-probabilities of `NgramScorer`, in single precision, of a model that the kenlm package reads.

    `path` is a file that its build_binary wrote, or an ARPA file. Every row and candidate is a call into the package:
    where there is an ARPA file, `NgramScorer` is quicker. Raises UserError where the package is missing, the file is
    not one it reads, or the words of the model are not pieces of the tokenizer.
    """

    max_gain = 0.0

    def __init__(self, path: str | os.PathLike[str], tokenizer: Tokenizer) -> None:
        kenlm = _kenlm(path)
        self.words = words_of(tokenizer)
        self.blank_id, self.bos_id = tokenizer.blank_id, tokenizer.bos_id
        if is_kenlm_binary(path):
            check_words(str(path), _words(path), self.words)
        else:
            read_arpa(path, tokenizer)  # says more of what is wrong with a file
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        try:
            self.model = kenlm.Model(os.fspath(path), config)
        except OSError as error:
            raise UserError(f"{path}: the kenlm package does not read it: {error}") from error
        self.new_state = kenlm.State

    def start(self, memory: Memory, beam_size: int) -> list[Any]:
        """The context of each of N rows; one is never changed, so rows may share it."""
        empty = self.new_state()
        self.model.NullContextWrite(empty)
        return [empty] * (memory.states.size(0) * beam_size)

    def score_candidates(self, tokens: Tensor, candidates: Tensor, state: list[Any]) -> Tensor:
        for row, token in enumerate(tokens.tolist()):
            if token >= 0:
                following = self.new_state()
                self.model.BaseScore(state[row], self.words[token], following)
                state[row] = following
        unused = self.new_state()
        scores = [
            [self.model.BaseScore(context, self.words[candidate], unused) for candidate in row]
            for context, row in zip(state, candidates.tolist(), strict=True)
        ]
        log_probs = torch.tensor(scores, dtype=torch.float64, device=candidates.device).view(candidates.shape) * LN10
        return log_probs.masked_fill((candidates == self.blank_id) | (candidates == self.bos_id), NEVER)

    def select(self, state: list[Any], parents: Tensor, utterances: Tensor | None = None) -> list[Any]:
        return [state[parent] for parent in parents.tolist()]

    def join(self, state: list[Any], other: list[Any]) -> list[Any]:
        return state + other


def is_kenlm_binary(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as those of KenLM do. Raises UserError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error


def _kenlm(path: str | os.PathLike[str]) -> ModuleType:
    try:
        return importlib.import_module("kenlm")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs the kenlm package: `pip install kenlm`, or give the ARPA file it was built from "
            "(plain or gzip), which needs nothing"
        ) from error


def _words(path: str | os.PathLike[str]) -> list[str]:
    """The words of a binary file, which stand at its end, <unk> first, a zero byte after each."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.rfind(UNK.encode() + b"\0")
        if start < 0 or data[-1]:
            raise UserError(
                f"{path}: the file does not end with its words, which are to be compared with the tokenizer: it is cut "
                "short, or was built with -v; copy it again, or build it again without -v"
            )
        words = data[start:].split(b"\0")[:-1]
    return [word.decode("utf-8", errors="replace") for word in words]
