"""Any search over any number of memories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, Search, UtteranceError
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask


def search_all(search: Search, memories: Iterable[Memory]) -> Iterator[tuple[int, list[Hypothesis]]]:
    """The number of each utterance, in order of arrival, and its n best; by the stream of a search that has one.

    Raises UtteranceError, before it is searched, for an utterance whose memory is not a number.
    """
    if isinstance(search, LabelSearch):
        yield from search.stream(checked(memories))
        return
    first = 0
    for memory in checked(memories):
        try:
            found = search(memory)
        except UtteranceError as error:
            raise UtteranceError(first + error.utterance, error.problem) from error
        yield from enumerate(found, start=first)
        first += len(found)


def checked(memories: Iterable[Memory]) -> Iterator[Memory]:
    """The memories, unless one has a frame that is not a finite number: UtteranceError."""
    first = 0
    for memory in memories:
        wrong = ~memory.states.isfinite().all(dim=-1) & valid_mask(memory.lengths, memory.states.size(1))
        bad = wrong.any(dim=1).nonzero()
        if len(bad):
            raise UtteranceError(first + int(bad[0]), NOT_A_NUMBER)
        first += len(memory.lengths)
        yield memory
