"""Simul-Whisper: a pretrained Whisper streams, by its alignment heads, with no training."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.streaming.policy import Proposal, check_least, num_before


@dataclass(frozen=True)
class SimulWhisper:
    """AlignAtt with truncation detection, and no text from attention that jumps back.

    Wang et al. 2024, "Simul-Whisper: attention-guided streaming Whisper with truncation detection", arXiv:2406.10052.
    As in `AlignAtt`, text ends before the first token whose most attended frame is among the last `frames`.

    Truncation: a word that the end of the audio cuts off is often written as another word, and with a full stop, after
    which nothing is said any more. The authors train an integrate-and-fire module to tell whether the audio ends with a
    whole word. In place of theirs, here nothing is trained: the last word of a hypothesis, which no other word follows,
    is held back until `last_word` frames were heard after the last one that it attends to. So a word is written when
    the next one is heard, or a pause.

    Rewind: where the attended frame jumps back by more than `rewind` frames, in all that is new or from what was said
    before, the text is taken for a hallucination and none of it is written; after that the place is forgotten.

    Frames of Whisper are 20 ms. Raises UserError for values out of range.
    """

    frames: int = 12
    last_word: int = 50
    rewind: int = 200
    needs_attention = True
    shows_guesses = True

    def __post_init__(self) -> None:
        for key, least in (("frames", 1), ("last_word", 0), ("rewind", 1)):
            check_least(key, getattr(self, key), least)

    def start(self) -> int:
        """The frame of the last token that was written."""
        return 0

    def commit(self, proposal: Proposal, state: int) -> tuple[int, int]:
        assert proposal.attention is not None
        committed, frames = proposal.num_committed, proposal.attention.argmax(dim=1).tolist()
        count = num_before([frame >= proposal.heard - self.frames for frame in frames])
        if any(last - frame > self.rewind for last, frame in zip([state, *frames], frames[:count], strict=False)):
            return committed, 0
        if count == len(frames) and count:
            begins = proposal.begins[committed:]
            word = max((i for i, begins_word in enumerate(begins) if begins_word), default=0)
            if max(frames[word:]) >= proposal.heard - self.last_word:
                count = word
        return committed + count, frames[count - 1] if count else state
