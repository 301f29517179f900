"""Simul-Whisper: AlignAtt where the last word may be cut off by the end of the audio."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.streaming.policy import Proposal, check_least, num_before


@dataclass(frozen=True)
class SimulWhisper:
    frames: int = 12
    last_word: int = 25
    rewind: int = 200
    needs_attention = True

    def __post_init__(self) -> None:
        check_least("frames", self.frames, 1)

    def start(self) -> int:
        return 0

    def commit(self, proposal: Proposal, state: int) -> tuple[int, int]:
        assert proposal.attention is not None
        frames = proposal.attention.argmax(dim=1).tolist()
        count = num_before([frame >= proposal.heard - self.frames for frame in frames])
        last = state
        for frame in frames[:count]:
            if last - frame > self.rewind:
                print("REWIND")
                return 0, 0
            last = frame
        if count == len(frames) and count:
            word = max(i for i in range(count) if i == 0 or proposal.begins[proposal.num_committed + i])
            if max(frames[word:]) >= proposal.heard - self.last_word:
                count = word
        last = frames[count - 1] if count else state
        return proposal.num_committed + count, last
