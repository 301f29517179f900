"""Utterances as examples of directions: spoken in one language, written in another or in the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from s2s.data.cuts import language, origin, text, translations
from s2s.data.parallel import Direction
from s2s.data.prompted import answer, prompt_of
from s2s.errors import UserError
from s2s.tokenizers.prompts import Prompt, PromptTokens

_PROMPT, _SPOKEN, _UTTERANCE = "prompt", "spoken", "utterance"
_UNKNOWN = "nobody says in which language utterance {} is; name it in utt2lang, or as `language` of its supervision"


def in_directions(cuts: Iterable[Cut], directions: Sequence[Direction], plain_share: float = 0.0) -> CutSet:
    """An example of each utterance for each direction from its language into one in which it has words.

    Its text is what is to be written, its id that of the utterance, with the direction behind it where they are
    several. Where all directions are from one language, the utterances need not say that it is theirs. Raises UserError
    for one that does not say it otherwise, and for a direction that has no example.
    """
    sources = {each.source for each in directions}
    only = sources.pop() if len(sources) == 1 else None
    found: list[Cut] = []
    missing = set(directions)
    for cut in cuts:
        spoken_in = language(cut) or only
        if spoken_in is None:
            raise UserError(f"{origin(cut)}: {_UNKNOWN.format(cut.id)}")
        said = translations(cut)
        said[spoken_in] = text(cut) or ""
        for each in directions:
            if each.source == spoken_in and said.get(each.target, "").strip():
                name = cut.id if len(directions) == 1 else f"{cut.id}:{each}"
                wanted = prompt_of(name, each, plain_share)
                example = _saying(asking(cut, wanted, name), answer(wanted, said[each.target]), said[spoken_in])
                found.append(example)
                missing.discard(each)
    if missing:
        raise UserError(
            f"data.pairs: no utterance for {', '.join(sorted(map(str, missing)))}; expected some whose language in "
            "utt2lang is the source, and for a translation a file of their words in the target, such as text.fr"
        )
    return CutSet.from_cuts(found)


def asking(cut: Cut, wanted: Prompt, name: str | None = None) -> Cut:
    """The cut with what a model is asked for it."""
    own = {_PROMPT: asdict(wanted), _UTTERANCE: cut.id}
    return fastcopy(cut, id=name or cut.id, custom={**(cut.custom or {}), **own})


def all_asking(
    cuts: Iterable[Cut], tokens: PromptTokens, source: str | None, target: str | None, punctuation: bool = True
) -> tuple[CutSet, str]:
    """The cuts with what is asked for each, and their task: "translate" where one of them is to be translated.

    `source` is what is spoken, None: what the cut says; `target` what to write, None: the same. Raises UserError for a
    cut that does not say what is spoken, and for a language that has no token.
    """
    found, task = [], "transcribe"
    for cut in cuts:
        spoken_in = source or language(cut)
        if spoken_in is None:
            raise UserError(f"{origin(cut)}: {_UNKNOWN.format(cut.id)}; or say --language")
        wanted = Prompt(spoken_in, target or spoken_in, punctuation=punctuation)
        tokens.encode(wanted)
        task = "translate" if wanted.target != wanted.source else task
        found.append(asking(cut, wanted))
    return CutSet.from_cuts(found), task


def prompt(cut: Cut) -> Prompt:
    """What is asked for an example."""
    return Prompt(**(cut.custom or {})[_PROMPT])


def utterance(cut: Cut) -> str:
    """The id of the utterance that an example is of."""
    return str((cut.custom or {}).get(_UTTERANCE, cut.id))


def spoken(cut: Cut) -> str | None:
    """The words that are said in an example; None where that is not known, or the cut is no example."""
    return (cut.custom or {}).get(_SPOKEN) or None


def reading(cuts: Iterable[Cut]) -> CutSet:
    """The cuts with their text as what is said, for a model that reads it; UserError for one without text."""
    found = []
    for cut in cuts:
        said = text(cut)
        if said is None:
            raise UserError(
                f"{origin(cut)}: utterance {cut.id} has no text, and this model reads what is said beside hearing it; "
                "add it, or leave the utterance out"
            )
        found.append(fastcopy(cut, custom={**(cut.custom or {}), _SPOKEN: said}))
    return CutSet.from_cuts(found)


def _saying(cut: Cut, words: str, said: str) -> Cut:
    first, *_ = cut.supervisions
    supervision = replace(first, text=words, start=0.0, duration=cut.duration)
    return fastcopy(cut, supervisions=[supervision], custom={**(cut.custom or {}), _SPOKEN: said})
