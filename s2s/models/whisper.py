"""Whisper: an encoder-decoder with what its weights say about how to use them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.memory import Memory
from s2s.models.prompts import Prompts
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.lengths import valid_mask

ALIKE = 10  # neighbouring frames of silence, 0.2 s, that one stands for; twice as many are as good
BEYOND = 8  # source frames: the second memory frame after an utterance is of them alone


class Whisper(EncoderDecoder):
    """Robust speech recognition by weak supervision (Radford et al. 2022, arXiv:2212.04356).

    `alignment_heads` are the [layer, head] of the decoder whose attention follows the audio in time; `suppress_ids` are
    never output, `suppress_begin_ids` not as the first token.
    """

    encoder: TransformerEncoder
    decoder: TransformerDecoder

    def __init__(
        self,
        vocab_size: int,
        encoder: nn.Module,
        decoder: nn.Module,
        bos_id: int,
        eos_id: int,
        alignment_heads: list[list[int]],
        suppress_ids: list[int],
        suppress_begin_ids: list[int],
    ) -> None:
        super().__init__(vocab_size, encoder, decoder, bos_id, eos_id)
        self.alignment_heads = [(layer, head) for layer, head in alignment_heads]
        self.suppress_ids, self.suppress_begin_ids = suppress_ids, suppress_begin_ids

    @property
    def max_frames(self) -> int:
        """Memory frames of the window that Whisper was trained to hear: 1500, 30 s."""
        return self.encoder.positions.max_positions

    def encode(self, source: Tensor, lengths: Tensor, asked: Prompts | None = None) -> Memory:
        """Features (B,S,F), lengths (B,) -> Memory of windows that go on with silence, as Whisper was trained to hear.

        Silence is what the quietest value of an utterance makes. Of its frames one in `ALIKE` is encoded, and stands
        for all of them in every attention: so a short window costs a fraction of a full one, and sounds the same.
        """
        num_frames = self.encoder.output_lengths(lengths)
        beyond = torch.where(num_frames < self.max_frames, BEYOND, 0)
        if not bool(beyond.any()):
            return super().encode(source, lengths)  # its prompts are longer: they come with the search
        real = valid_mask(lengths, source.size(1) + BEYOND).unsqueeze(-1)
        source = F.pad(source, (0, 0, 0, BEYOND))
        quietest = source.masked_fill(~real, float("inf")).amin(dim=(1, 2), keepdim=True)
        x, _ = self.encoder.front(torch.where(real, source, quietest), lengths + beyond)
        positions = self.encoder.positions.first(self.max_frames, x.device)
        groups = torch.arange(0, self.max_frames, ALIKE, device=x.device)
        sizes = (self.max_frames - groups).clamp(max=ALIKE)
        frames, places, counts = [], [], []
        for row, n in zip(x, num_frames.tolist(), strict=True):
            silent = groups >= n
            frames.append(torch.cat((row[:n], row[n + 1].expand(int(silent.sum()), -1))))
            places.append(torch.cat((positions[:n], positions[(groups + sizes // 2)[silent]])))
            counts.append(torch.cat((sizes.new_ones(n), sizes[silent])))
        return self.encoder.memory_of(*(pad_sequence(rows, batch_first=True) for rows in (frames, places, counts)))
