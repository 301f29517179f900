"""Files that say when the tokens of utterances end: `s2s align --ends` writes them, a training learns from them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from s2s.data.cuts import origin, text
from s2s.errors import UserError
from s2s.files import replacing
from s2s.scoring.json_lines import read_json_lines
from s2s.tokenizers.base import Tokenizer

KIND = "token"  # of a supervision's alignments


@dataclass(frozen=True)
class TokenEnds:
    """The pieces of an utterance, and when each of them ends, in seconds from its beginning."""

    pieces: Sequence[str]
    ends: Sequence[float]
    where: str = ""  # the file and line it stands on


def write_token_ends(path: str | os.PathLike[str], utterances: Mapping[str, TokenEnds]) -> None:
    """Write a line of JSON for each utterance: its id, tokens and ends."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        for name, each in utterances.items():
            ends = [round(end, 6) for end in each.ends]
            line = {"id": name, "tokens": list(each.pieces), "ends": ends}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_token_ends(path: str | os.PathLike[str]) -> dict[str, TokenEnds]:
    """What `write_token_ends` wrote, by id. Raises UserError naming the line that is of another form."""
    found: dict[str, TokenEnds] = {}
    for line in read_json_lines(path):
        name, pieces, ends = line.text("id"), line.get("tokens"), line.times("ends")
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise line.wrong("tokens", "a list of strings")
        if len(ends) != len(pieces):
            raise UserError(f"{line.where}: {len(pieces)} tokens, but {len(ends)} ends; expected one for each")
        if name in found:
            raise UserError(f"{line.where}: utterance '{name}' stands already in {found[name].where}; keep one of them")
        found[name] = TokenEnds(pieces, ends, line.where)
    return found


def with_token_ends(cuts: CutSet, path: str | os.PathLike[str], tokenizer: Tokenizer) -> CutSet:
    """The cuts, with the ends of their tokens that a file has; what changes their speed changes these too.

    Raises UserError for an utterance that is not in the file, or has other tokens there than its text.
    """
    known = read_token_ends(path)
    return CutSet.from_cuts(_with_token_ends(cut, known.get(cut.id), path, tokenizer) for cut in list(cuts))


def _with_token_ends(cut: Cut, known: TokenEnds | None, path: str | os.PathLike[str], tokenizer: Tokenizer) -> Cut:
    if known is None:
        raise UserError(
            f"{path}: utterance '{cut.id}' ({origin(cut)}) is not in it; align all data sets of the training: "
            "s2s align --data TRAIN --data DEV --ends FILE"
        )
    pieces = tokenizer.pieces(tokenizer.encode(text(cut) or ""))
    if list(known.pieces) != pieces:
        raise UserError(
            f"{known.where}: the tokens of utterance '{cut.id}' are {' '.join(known.pieces)[:60]}, but by its text and "
            f"the tokenizer {' '.join(pieces)[:60]}; align it again with a model of this tokenizer"
        )
    items = [
        AlignmentItem(piece, start, end - start)
        for piece, start, end in zip(pieces, [0.0, *known.ends], known.ends, strict=False)
    ]
    first, *others = cut.supervisions
    return fastcopy(cut, supervisions=[fastcopy(first, alignment={**(first.alignment or {}), KIND: items}), *others])


def token_ends(cut: Cut) -> list[float] | None:
    """When the tokens of a cut end, in seconds from its beginning; None where it is not known."""
    for supervision in cut.supervisions:
        if supervision.alignment and KIND in supervision.alignment:
            return [item.end for item in supervision.alignment[KIND]]
    return None
