"""N-gram language models as tensors: every row and candidate is looked up at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from s2s.decoding.arpa import LN10, Ngrams, read_arpa
from s2s.decoding.kenlm import KenLMScorer, is_kenlm_binary
from s2s.decoding.scorers import CandidateScorer, RowState
from s2s.models.memory import Memory
from s2s.tokenizers.base import Tokenizer

NEVER = float("-inf")
MISSING_UNK = -100.0 * LN10  # what KenLM gives <unk> where the model has none
LAST_KEY = torch.iinfo(torch.long).max


@dataclass(frozen=True)
class NgramLM:
    """A back-off model (Katz 1987) as a trie of E n-grams: node 0 is the empty one, node e that of keys[e-1].

    An n-gram that only begins longer ones stands in the trie with the log-probability it backs off to, so every
    beginning of an n-gram is a node. Natural logs, float64.
    """

    order: int
    words: Tensor  # (V,) the token each token is looked up as: itself, or unk where the model lacks it
    keys: Tensor  # (E+1,) node of all but the last token * V + last token, sorted; behind them LAST_KEY
    log_probs: Tensor  # (E+1,)
    backoffs: Tensor  # (E+1,)
    shorter: Tensor  # (E+1,) the longest proper suffix that is a node
    contexts: Tensor  # (E+1,) the longest suffix that what follows depends on

    @classmethod
    def from_arpa(cls, path: str | os.PathLike[str], tokenizer: Tokenizer) -> NgramLM:
        """Read an ARPA file, plain or gzip, of a model over the pieces of the tokenizer.

        A piece that the model lacks counts as <unk>; without <unk> in the model that has -100 (log10), as in KenLM.
        blank and bos have log-probability -inf. Raises UserError, with file and line, for what `read_arpa` refuses.
        """
        orders = read_arpa(path, tokenizer)
        lm = _unigrams(orders[0], tokenizer)
        nodes = [lm.keys.new_zeros(len(ngrams.tokens)) for ngrams in orders]  # of the first tokens of each n-gram
        for depth, ngrams in enumerate(orders):
            following = [n * len(lm.words) + o.tokens[:, depth] for n, o in zip(nodes, orders[depth:], strict=True)]
            if depth > 0:
                lm = _extended(lm, ngrams, following)
            nodes = [torch.searchsorted(lm.keys, keys) + 1 for keys in following[1:]]

        last = lm.keys[:-1] % len(lm.words)
        lm.log_probs[1:][(last == tokenizer.blank_id) | (last == tokenizer.bos_id)] = NEVER
        decides = lm.backoffs != 0
        decides[0] = True
        decides[lm.keys[:-1] // len(lm.words)] = True
        contexts = torch.arange(len(decides))
        for _ in orders:
            contexts = torch.where(decides[contexts], contexts, lm.shorter[contexts])
        return replace(lm, contexts=contexts)

    def to(self, device: torch.device) -> NgramLM:
        moved: dict[str, Any] = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved)

    def look_up(self, nodes: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Contexts as nodes and a word after each, shapes that broadcast -> log-probabilities and nodes of that shape.

        The nodes are the longest suffixes of context and word that are any.
        """
        contexts = []
        for _ in range(self.order - 1):
            contexts.append(nodes)
            nodes = self.shorter[nodes]
        nodes = words + 1  # after the empty context, which has every word
        log_probs = self.log_probs[nodes]
        for context in reversed(contexts):
            keys = context * len(self.words) + words
            indices = torch.searchsorted(self.keys, keys)
            found = self.keys[indices] == keys
            nodes = torch.where(found, indices + 1, nodes)
            log_probs = torch.where(found, self.log_probs[nodes], self.backoffs[context] + log_probs)
        return log_probs, nodes


class NgramScorer(RowState):
    """Log-probability of each candidate after the longest context the model has; eos is scored as </s>.

    The state (N,) is each row's node in the model. `max_gain` is that of a model whose probabilities sum to 1.
    """

    max_gain = 0.0

    def __init__(self, lm: NgramLM) -> None:
        self.lm = lm

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        self.lm = self.lm.to(memory.states.device)
        return self.lm.keys.new_zeros(memory.states.size(0) * beam_size)

    def score_candidates(self, tokens: Tensor, candidates: Tensor, state: Tensor) -> Tensor:
        _, nodes = self.lm.look_up(state, self.lm.words[tokens.clamp(min=0)])
        state.copy_(torch.where(tokens < 0, state, self.lm.contexts[nodes]))
        return self.lm.look_up(state.unsqueeze(1), self.lm.words[candidates])[0]


def load_ngram(path: str | os.PathLike[str], tokenizer: Tokenizer) -> CandidateScorer:
    """A scorer of an n-gram model over the pieces of the tokenizer, by what the file is.

    ARPA text, plain or gzip, is read here; a binary file of KenLM needs its package. Raises UserError for any other.
    """
    if is_kenlm_binary(path):
        return KenLMScorer(path, tokenizer)
    return NgramScorer(NgramLM.from_arpa(path, tokenizer))


def _unigrams(unigrams: Ngrams, tokenizer: Tokenizer) -> NgramLM:
    vocab_size, tokens = tokenizer.vocab_size, unigrams.tokens[:, 0]
    words = torch.full((vocab_size,), tokenizer.unk_id)
    words[tokens] = tokens
    words[tokenizer.blank_id] = tokenizer.blank_id
    log_probs = torch.full((1 + vocab_size,), NEVER, dtype=torch.float64)
    log_probs[1 + tokenizer.unk_id] = MISSING_UNK
    log_probs[1 + tokens] = unigrams.log_probs
    backoffs = torch.zeros_like(log_probs)
    backoffs[1 + tokens] = unigrams.backoffs
    none = torch.zeros(1 + vocab_size, dtype=torch.long)
    keys = torch.cat((torch.arange(vocab_size), torch.tensor([LAST_KEY])))
    return NgramLM(1, words, keys, log_probs, backoffs, shorter=none, contexts=none)


def _extended(lm: NgramLM, ngrams: Ngrams, following: list[Tensor]) -> NgramLM:
    """The model with one more order: `following` are the keys of its n-grams, then of the beginnings of longer ones."""
    keys = torch.cat(following).unique()
    parents, words = keys // len(lm.words), keys % len(lm.words)
    log_probs, shorter = lm.look_up(lm.shorter[parents], words)
    log_probs = lm.backoffs[parents] + log_probs
    backoffs = torch.zeros_like(log_probs)
    given = torch.searchsorted(keys, following[0])
    log_probs[given], backoffs[given] = ngrams.log_probs, ngrams.backoffs
    return replace(
        lm,
        order=lm.order + 1,
        keys=torch.cat((lm.keys[:-1], keys, lm.keys[-1:])),
        log_probs=torch.cat((lm.log_probs, log_probs)),
        backoffs=torch.cat((lm.backoffs, backoffs)),
        shorter=torch.cat((lm.shorter, shorter)),
    )
