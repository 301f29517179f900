"""The best alignment of each prefix of a CTC prefix beam, carried from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

NEVER = float("-inf")


@dataclass
class BeamAlignments:
    """The best alignment of each of K prefixes of B utterances that ends in a blank, and that ends in a label.

    They are kept as the beam keeps its scores, with the maximum in place of the sum (Viterbi), and like those lose what
    leads through a prefix that was not in the beam: where that held all prefixes they are the forced alignments. An
    alignment of prefix k goes by the code 2k where it ends in a blank, 2k + 1 where it ends in a label.
    """

    label_ends: Tensor  # (B,K) log-probabilities
    blank_ends: Tensor  # (B,K)
    origins: list[Tensor]  # of each utterance, (F,2K): 2 * a code's code a frame before + whether a token starts
    unfiled: list[Tensor] = field(default_factory=list)  # (B,2K) of frames that `origins` do not have yet

    @classmethod
    def empty(cls, size: int, beam_size: int, like: Tensor) -> BeamAlignments:
        """Of one empty prefix for each of B=`size` utterances; `like` has the dtype."""
        label_ends = like.new_full((size, beam_size), NEVER)
        blank_ends = label_ends.clone()
        blank_ends[:, 0] = 0.0
        none = like.new_zeros(0, 2 * beam_size, dtype=torch.long)
        return cls(label_ends, blank_ends, [none] * size)

    def advance(
        self,
        last: Tensor,
        extends: Tensor,
        frame: tuple[Tensor, Tensor, Tensor, Tensor],
        parents: Tensor,
        choices: Tensor,
        valid: Tensor | None,
    ) -> None:
        """One frame of a beam whose prefixes had the last tokens (B,K), and of which j `extends` i (B,K of i,K of j).

        `frame` is the score of the blank (B,1) and of the labels (B,V), candidate tokens and their scores (B,1+C);
        `parents` and `choices` among these (B,K) say what became of the beam, `valid` (B,1) of which utterances it is a
        frame: None, of all.
        """
        blank, labels, tokens, scores = frame
        slots = torch.arange(last.size(1), device=last.device)
        by_label = self.label_ends > self.blank_ends
        ends = torch.maximum(self.label_ends, self.blank_ends)
        codes = 2 * slots + by_label

        # A prefix stays as it was, or is come to again from the one without its last token.
        again = torch.where(last.unsqueeze(2) == last.unsqueeze(1), self.blank_ends.unsqueeze(2), ends.unsqueeze(2))
        entering, source = again.masked_fill_(~extends, NEVER).max(dim=1)
        source_codes = 2 * source + (by_label.gather(1, source) & (last.gather(1, source) != last))
        origins = torch.where(entering > self.label_ends, 2 * source_codes + 1, 4 * slots + 2)
        label_ends = torch.maximum(self.label_ends, entering) + labels.gather(1, last)

        # Or it is new.
        grew = choices > 0
        repeats = tokens.gather(1, choices) == last.gather(1, parents)
        grown = torch.where(repeats, self.blank_ends.gather(1, parents), ends.gather(1, parents))
        grown_codes = 2 * parents + (by_label.gather(1, parents) & ~repeats)
        origins = torch.where(grew, 2 * grown_codes + 1, origins.gather(1, parents))
        label_ends = torch.where(grew, grown + scores.gather(1, choices), label_ends.gather(1, parents))
        blank_ends = (ends + blank).gather(1, parents).masked_fill_(grew, NEVER)

        self.unfiled.append(torch.stack((2 * codes.gather(1, parents), origins), dim=2).flatten(1))
        self.label_ends = label_ends if valid is None else torch.where(valid, label_ends, self.label_ends)
        self.blank_ends = blank_ends if valid is None else torch.where(valid, blank_ends, self.blank_ends)

    def file(self, lengths: Sequence[int]) -> None:
        """Of the frames since the last call, the first `lengths` are those of the B utterances."""
        if self.unfiled:
            new = torch.stack(self.unfiled, dim=1)  # (B,T,2K)
            self.origins = [torch.cat((own, more[:n])) for own, more, n in zip(self.origins, new, lengths, strict=True)]
            self.unfiled = []

    def frames(self, rows: Tensor) -> list[list[list[tuple[int, int]]]]:
        """The first frame and the one past the last of each token of the prefixes `rows` (B,n)."""
        codes = 2 * rows + (self.label_ends > self.blank_ends).gather(1, rows)
        return [
            [_spans(origins, code) for code in own]
            for origins, own in zip([own.tolist() for own in self.origins], codes.tolist(), strict=True)
        ]

    def rows(self, utterances: Tensor) -> BeamAlignments:
        """Of those utterances (B') alone, in that order."""
        origins = [self.origins[b] for b in utterances.tolist()]
        return BeamAlignments(self.label_ends[utterances], self.blank_ends[utterances], origins)

    @classmethod
    def joined(cls, parts: Sequence[BeamAlignments]) -> BeamAlignments:
        """The utterances of all parts, one after the other."""
        return cls(
            torch.cat([part.label_ends for part in parts]),
            torch.cat([part.blank_ends for part in parts]),
            [own for part in parts for own in part.origins],
        )


def _spans(origins: list[list[int]], code: int) -> list[tuple[int, int]]:
    """The frames of each token of the alignment `code`, by the origins (F,2K) of all."""
    spans, end = [], 0
    for t in reversed(range(len(origins))):
        origin = origins[t][code]
        if code % 2:
            end = end or t + 1
            if origin % 2:
                spans.append((t, end))
                end = 0
        code = origin // 2
    return spans[::-1]
