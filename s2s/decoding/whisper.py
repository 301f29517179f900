"""Whisper's decoder as a scorer: prompts, timestamps by the rules, tokens that are never said."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.scorers import READ_AT_ONCE
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoderState
from s2s.models.whisper import Whisper

NEVER = float("-inf")


@dataclass(frozen=True)
class TimestampTokens:
    """Where the timestamps are in the vocabulary: `begin` is <|0.00|>, one for every memory frame (0.02 s) follows."""

    begin: int
    no_timestamps_id: int
    max_initial: int = 50  # frames: text begins in the first second, or the window has no beginning


@dataclass
class Rules:
    """What the timestamp rules ask about the past of N hypotheses."""

    stamped: Tensor  # (N,) bool: is this one to have timestamps
    latest: Tensor  # (N,) frames in the window: no time is later
    count: Tensor  # (N,) tokens so far, the last of the prompt counted
    last_is_time: Tensor  # (N,) bool
    second_last_is_time: Tensor  # (N,) bool, true of less than two tokens
    time: Tensor  # (N,) the last timestamp, in frames, -1 for none

    def of(self, rows: Tensor | slice) -> Rules:
        """Those of some rows."""
        return Rules(*(getattr(self, field.name)[rows] for field in fields(Rules)))


@dataclass
class WhisperState:
    """The decoder's state, and N rows of what else there is to know."""

    decoder: TransformerDecoderState
    first: Tensor  # (N,) last token of the prompt
    rules: Rules

    @property
    def attention(self) -> Tensor | None:
        return self.decoder.attention


class WhisperScorer:
    """log P of the next token under Whisper, by its rules (Radford et al. 2022, section 4.5, and OpenAI's code).

    A hypothesis begins after the prompt of a `PromptedMemory`. Where that does not end in <|notimestamps|>, timestamps
    come in pairs around the text, never go back, never pass the end of the audio, and one is forced where all of them
    together are more probable than any token of text. `suppress_ids` of the model are never output. What is left has
    the probability 1 (it is renormalised).
    """

    max_gain = 0.0

    def __init__(self, model: Whisper, timestamps: TimestampTokens, need_attention: bool = False) -> None:
        self.model, self.timestamps, self.need_attention = model, timestamps, need_attention
        device = next(model.parameters()).device
        never = [*model.suppress_ids, timestamps.no_timestamps_id]
        self.never = torch.tensor(sorted({i for i in never if i != model.eos_id}), device=device)
        self.not_first = torch.tensor(model.suppress_begin_ids, dtype=torch.long, device=device)

    def start(self, memory: Memory, beam_size: int) -> WhisperState:
        assert isinstance(memory, PromptedMemory)
        decoder, last = self.model.decoder, memory.prompt_lengths - 1
        state = decoder.start(memory, beam_size, self.need_attention)
        if int(last.max()) > 0:
            decoder.prompt(memory.prompts[:, :-1], last, state)
        first = memory.prompts.gather(1, last.unsqueeze(1)).squeeze(1).repeat_interleave(beam_size)
        rules = Rules(
            stamped=first != self.timestamps.no_timestamps_id,
            latest=memory.frame_counts.sum(dim=1).repeat_interleave(beam_size),
            count=torch.zeros_like(first),
            last_is_time=torch.zeros_like(first, dtype=torch.bool),
            second_last_is_time=torch.ones_like(first, dtype=torch.bool),
            time=torch.full_like(first, -1),
        )
        return WhisperState(state, first, rules)

    def score(self, tokens: Tensor, state: WhisperState) -> Tensor:
        is_first = state.rules.count == 0
        tokens = torch.where(is_first & (tokens >= 0), state.first, tokens)
        self._note(tokens, state.rules)
        logits = self.model.decoder.logits(self.model.decoder.advance(tokens, state.decoder))
        return self._by_the_rules(logits, is_first, state.rules)

    def read_prefix(self, tokens: Tensor, lengths: Tensor, state: WhisperState) -> Tensor:
        """As `s2s.decoding.prefix.read_prefix`, in one pass."""
        beam_size = len(state.first) // len(lengths)
        tokens = torch.cat((state.first[::beam_size].unsqueeze(1), tokens[:, 1:]), dim=1)
        x = self.model.decoder.prompt(tokens[:, :-1], lengths, state.decoder)
        rules = state.rules.of(slice(None, None, beam_size))
        total = torch.zeros(len(lengths), dtype=torch.float64, device=lengths.device)
        for first in range(0, x.size(1), READ_AT_ONCE):
            logits = self.model.decoder.logits(x[:, first : first + READ_AT_ONCE])
            for u in range(first, first + logits.size(1)):
                inside = u < lengths
                self._note(torch.where(inside, tokens[:, u], -1), rules)
                scores = self._by_the_rules(logits[:, u - first], torch.full_like(inside, u == 0), rules)
                total += scores.gather(1, tokens[:, u + 1 : u + 2]).squeeze(1).masked_fill(~inside, 0.0)
        state.rules = rules.of(torch.arange(len(lengths), device=lengths.device).repeat_interleave(beam_size))
        return total

    def _by_the_rules(self, logits: Tensor, is_first: Tensor, rules: Rules) -> Tensor:
        """log P (N,V) of what may come next, made of logits (N,V) in place; `is_first` (N,) bool: after the prompt."""
        begin, eos_id = self.timestamps.begin, self.model.eos_id
        logits.index_fill_(1, self.never, NEVER)
        if len(self.not_first):
            logits[:, self.not_first] = logits[:, self.not_first].masked_fill(is_first.unsqueeze(1), NEVER)
        text, times = logits[:, :begin], logits[:, begin:]  # views
        times.masked_fill_(~self._times_allowed(rules, is_first, times.size(1)), NEVER)
        # A stretch of text has a time before it; the time after it is followed by another one or by the end.
        only_end = rules.stamped & rules.last_is_time & ~rules.second_last_is_time
        end, total_times = text[:, eos_id].clone(), times.logsumexp(dim=-1)
        best_text, index = text.max(dim=-1, keepdim=True)
        total_text = (best_text - text.log_softmax(dim=-1).gather(1, index)).squeeze(1)
        best_text, total_text = (torch.where(only_end, end, x) for x in (best_text.squeeze(1), total_text))
        no_text = rules.stamped & (is_first | (total_times > best_text))
        total = torch.logaddexp(total_text.masked_fill(no_text, NEVER), total_times)
        text -= total.masked_fill(no_text | only_end, float("inf")).unsqueeze(1)
        times -= total.unsqueeze(1)
        text[:, eos_id] = (end - total).masked_fill(no_text, NEVER)
        return logits

    def _note(self, tokens: Tensor, rules: Rules) -> None:
        """Take note of the last token (N,) of each row, unless it is of the prompt or -1."""
        noted = (tokens >= 0) & (rules.count > 0)
        is_time = tokens >= self.timestamps.begin
        second_last = rules.last_is_time | (rules.count == 1)
        rules.second_last_is_time = torch.where(noted, second_last, rules.second_last_is_time)
        rules.last_is_time = torch.where(noted, is_time, rules.last_is_time)
        rules.time = torch.where(noted & is_time, tokens - self.timestamps.begin, rules.time)
        rules.count = rules.count + (tokens >= 0)

    def _times_allowed(self, rules: Rules, is_first: Tensor, size: int) -> Tensor:
        """Which of the timestamps may come next (N,size) bool."""
        # The time that ends a stretch may begin the next; any other is later than the one before.
        earliest = rules.time + 1 - (rules.last_is_time & ~rules.second_last_is_time).long()
        latest = torch.where(is_first, rules.latest.clamp(max=self.timestamps.max_initial), rules.latest)
        allowed = rules.stamped & ~(rules.last_is_time & rules.second_last_is_time)
        frames = torch.arange(size, device=earliest.device)
        return allowed.unsqueeze(1) & (frames >= earliest.unsqueeze(1)) & (frames <= latest.unsqueeze(1))

    def select(self, state: WhisperState, parents: Tensor, utterances: Tensor | None = None) -> WhisperState:
        decoder = self.model.decoder.select(state.decoder, parents, utterances)
        return WhisperState(decoder, state.first.index_select(0, parents), state.rules.of(parents))

    def join(self, state: WhisperState, other: WhisperState) -> WhisperState:
        both = ((getattr(state.rules, f.name), getattr(other.rules, f.name)) for f in fields(Rules))
        decoder = self.model.decoder.join(state.decoder, other.decoder)
        return WhisperState(decoder, torch.cat((state.first, other.first)), Rules(*map(torch.cat, both)))
