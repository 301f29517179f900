"""Plain text as tokens, a sentence a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from s2s.data.batch import Batch
from s2s.data.buckets import Lengths
from s2s.data.text_batches import Rows
from s2s.scoring.transcripts import numbered_lines
from s2s.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class TokenLines:
    """The tokens of N lines, without bos and eos; `names` says which line of which file each is, `texts` what it says.

    `directions` are the files they are of, which `text.temperature` balances as it does directions of translation.
    """

    names: list[str]
    directions: list[str]
    tokens: Rows
    texts: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def lengths(self) -> list[Lengths]:
        """The tokens of each, eos counted: what is read is what is written."""
        return [(length + 1, length + 1) for length in self.tokens.lengths().tolist()]

    def some(self, numbers: Sequence[int]) -> TokenLines:
        """Those of `numbers` alone."""
        names, directions, texts = ([all_[n] for n in numbers] for all_ in (self.names, self.directions, self.texts))
        return TokenLines(names, directions, self.tokens.some(numbers), texts)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Those of `numbers` as a batch without a source."""
        rows = [self.tokens[n] for n in numbers]
        return Batch(
            ids=[self.names[n] for n in numbers],
            source=torch.zeros(len(rows), 0, dtype=torch.long),
            source_lengths=torch.zeros(len(rows), dtype=torch.long),
            target=pad_sequence(rows, batch_first=True),
            target_lengths=torch.tensor(list(map(len, rows))),
            texts=[self.texts[n] for n in numbers],
            seconds=0.0,
            skipped=[],
        )


def read_text_lines(paths: Sequence[str], tokenizer: Tokenizer) -> tuple[TokenLines, int]:
    """The lines of UTF-8 files that are not empty, as tokens, and how many are empty.

    Raises UserError for a file that cannot be read and for a line that is not UTF-8.
    """
    names, files, texts = [], [], []
    num_empty = 0
    for path in paths:
        for number, text in numbered_lines(path):
            if not text.strip():
                num_empty += 1
                continue
            names.append(f"{path}:{number}")
            files.append(path)
            texts.append(text)
    return TokenLines(names, files, Rows.of(tokenizer.encode(text) for text in texts), texts), num_empty
