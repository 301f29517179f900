"""What a hypothesis must be: scorers that give 0 for a token that is allowed and -inf for one that is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from s2s.decoding.phrases import TokenAutomaton, check_phrases, check_tokens, empty_table
from s2s.decoding.scorers import RowState
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.rows import join_rows

NEVER = float("-inf")


class PrefixConstraint(RowState):
    """A hypothesis must begin with the given tokens; after them everything is allowed.

    `prefixes` is one for all utterances, or one for each utterance of the memory that `start` is given, in its order. A
    row carries what is left of its prefix, so states of different constraints can be joined.
    Raises UserError for tokens that are not of this vocabulary, and in `start` for another number of utterances.
    """

    max_gain = 0.0

    def __init__(self, prefixes: Sequence[Sequence[int]], vocab_size: int, eos_id: int) -> None:
        if not prefixes:
            raise UserError("no prefixes: give one for all utterances, or one for each")
        for number, prefix in enumerate(prefixes, start=1):
            check_tokens(prefix, vocab_size, eos_id, f"prefix {number}")
        self.prefixes = prefixes
        self.vocab_size = vocab_size

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        """State (N,U): the first column is for the token of this step, bos at first; -1 where anything is allowed."""
        size = memory.states.size(0)
        prefixes = self.prefixes if len(self.prefixes) > 1 else [*self.prefixes] * size
        if len(prefixes) != size:
            raise UserError(
                f"{len(prefixes)} prefixes for {size} utterances: give one for all, or one for each of those that are "
                "searched at once"
            )
        longest = max(map(len, prefixes), default=0)
        rows = [[0, *prefix, *[-1] * (longest - len(prefix))] for prefix in prefixes]
        state = torch.tensor(rows, dtype=torch.long, device=memory.states.device).view(size, longest + 1)
        return state.repeat_interleave(beam_size, dim=0)

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        left = torch.cat((state[:, 1:], state.new_full((len(state), 1), -1)), dim=1)
        state.copy_(torch.where(tokens.unsqueeze(1) < 0, state, left))
        due = state[:, :1]  # (N,1)
        scores = torch.where(due < 0, 0.0, NEVER).repeat(1, self.vocab_size)
        return scores.scatter_(1, due.clamp(min=0), 0.0)

    def join(self, state: Tensor, other: Tensor) -> Tensor:
        return join_rows(state + 1, other + 1) - 1  # pads with -1


DEAD, ENDED, BEFORE_BOS = 0, 1, 2  # states: not a phrase any more; after eos; before the first step
FIRST, AGAIN = 0, 1  # nodes: before the first phrase, after any


class PhraseConstraint(RowState):
    """A hypothesis must be one of the phrases (tokens), from its first token to eos.

    With `repeat` it is one or more of them, `separator` between each two: none for pieces that hold their own space,
    the piece ▁ for characters. Raises UserError for phrases that are empty or not of this vocabulary.
    """

    max_gain = 0.0

    def __init__(
        self,
        phrases: Sequence[Sequence[int]],
        vocab_size: int,
        eos_id: int,
        repeat: bool = False,
        separator: Sequence[int] = (),
    ) -> None:
        check_phrases(phrases, vocab_size, eos_id)
        check_tokens(separator, vocab_size, eos_id, "the separator")
        own = sorted({eos_id, *separator, *(token for phrase in phrases for token in phrase)})
        columns = torch.zeros(vocab_size, dtype=torch.long)  # column 0: tokens of no phrase
        columns[own] = torch.arange(1, 1 + len(own))
        rows = _allowed_tokens(*_tree(phrases, tuple(separator) if repeat else None), eos_id)
        table = empty_table(len(rows), 1 + len(own))
        for row, following in zip(table, rows, strict=True):
            row[columns[list(following)]] = torch.tensor(list(following.values()), dtype=table.dtype)
        table[BEFORE_BOS] = BEFORE_BOS + 1
        self.automaton = TokenAutomaton(columns, table)

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        self.automaton = self.automaton.to(memory.states.device)
        return torch.full((memory.states.size(0) * beam_size,), BEFORE_BOS, device=memory.states.device)

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        self.automaton.advance(tokens, state)
        scores = torch.where(self.automaton.following(state) == DEAD, NEVER, 0.0)  # (N,A)
        return scores.index_select(1, self.automaton.columns)


def _tree(
    phrases: Sequence[Sequence[int]], separator: tuple[int, ...] | None
) -> tuple[list[dict[int, int]], frozenset[int]]:
    """Children by token of each node, and the nodes where a phrase ends. None: a phrase comes once."""
    children: list[dict[int, int]] = [{}, {}]
    ends = set()
    branches = [(FIRST, tuple(phrase)) for phrase in phrases]
    if separator is not None:
        branches += [(AGAIN, (*separator, *phrase)) for phrase in phrases]
    for node, tokens in branches:
        for token in tokens:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
            node = children[node][token]
        ends.add(node)
    return children, frozenset(ends)


def _allowed_tokens(children: list[dict[int, int]], ends: frozenset[int], eos_id: int) -> list[dict[int, int]]:
    """The allowed tokens of each state and where they lead.

    A hypothesis may stand at several nodes at once ("one", then "two" of "one two" or of a new phrase): a state is the
    set of them (subset construction, Rabin and Scott 1959), with AGAIN among them where it may end. Nodes that lead no
    further are left out, so that all phrases end in few states.
    """
    rows: list[dict[int, int]] = [{}, {}, {}]  # DEAD, ENDED, BEFORE_BOS
    waiting = [frozenset((FIRST,))]
    numbers = {waiting[0]: 3}
    for nodes in waiting:  # grows on the way
        reached: dict[int, set[int]] = defaultdict(set)
        for node in nodes:
            for token, child in children[node].items():
                reached[token].update({child} if children[child] else (), {AGAIN} if child in ends else ())
        row = {eos_id: ENDED} if AGAIN in nodes else {}
        for token, together in reached.items():
            key = frozenset(together)
            if key not in numbers:
                numbers[key] = 3 + len(waiting)
                waiting.append(key)
            row[token] = numbers[key]
        rows.append(row)
    return rows
