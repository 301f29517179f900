"""What is asked of a transcription."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.errors import UserError, nearest

TASKS = ("transcribe", "translate")


@dataclass(frozen=True)
class Request:
    """What to write down.

    Attributes:
        language: what is spoken, as a code or an English name; None: it is detected in the first window of a recording.
        task: "transcribe", or "translate".
        target_language: of a translation, as a code; None: English, the one that Whisper writes.
        punctuation: whether a model that can be told so writes punctuation, and capitals.
        initial_prompt: text that the model is told came before: names, spelling, style.
        word_timestamps: whether words are wanted with their times.
        sequential: whether each window begins where the text of the one before ended, and is told that text; else a
            recording is cut at silences and its windows are heard side by side.
    """

    language: str | None = None
    task: str = "transcribe"
    initial_prompt: str | None = None
    word_timestamps: bool = False
    sequential: bool = False
    target_language: str | None = None
    punctuation: bool = True

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UserError(f"task={self.task}: expected {' or '.join(TASKS)}.{nearest(self.task, TASKS)}")
