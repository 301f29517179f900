"""Whisper: an encoder-decoder with what its weights say about how to use them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.lengths import valid_mask

SILENCE = -0.75  # a log-mel value below which speech has nothing to say


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
        self._silence: Memory | None = None

    @property
    def max_frames(self) -> int:
        """Memory frames of the window that Whisper was trained to hear: 1500, 30 s."""
        return self.encoder.positions.max_positions

    def surrounded(self, memory: Memory) -> Memory:
        """A memory of the decoder in which each utterance goes on with silence to the full window.

        The decoder has never seen a shorter one and says things again and again; the encoder does without what it
        would make of silence, which is taken from a window that has nothing else. Its keys and values are made once.
        """
        if bool((memory.lengths >= self.max_frames).all()):
            return self.decoder.prepared(memory)
        silence = self._of_silence()
        real = valid_mask(memory.lengths, self.max_frames)

        def filled(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            """x (B,...,T,d) where there are real frames, then y (1,...,T',d)"""
            joined = y.expand(len(x), *y.shape[1:]).clone()
            joined[..., : x.size(-2), :] = torch.where(mask[..., : x.size(-2), :], x, joined[..., : x.size(-2), :])
            return joined

        assert silence.keys_values is not None
        pairs = self.decoder.prepared(memory).keys_values or ()
        mask = real[:, None, :, None]
        keys_values = tuple(
            (filled(keys, silent_keys, mask), filled(values, silent_values, mask))
            for (keys, values), (silent_keys, silent_values) in zip(pairs, silence.keys_values, strict=True)
        )
        states = filled(memory.states, silence.states, real[:, :, None])
        return Memory(states, torch.full_like(memory.lengths, self.max_frames), keys_values)

    @torch.no_grad()
    def _of_silence(self) -> Memory:
        like = next(self.encoder.parameters())
        known = self._silence and (self._silence.states.device, self._silence.states.dtype)
        if self._silence is None or known != (like.device, like.dtype):
            frames = self.max_frames * self.encoder.subsampling_factor
            bins = self.encoder.front.convolutions[0].in_channels  # type: ignore[index, union-attr]
            source = like.new_full((1, frames, bins), SILENCE)
            memory = self.encode(source, torch.tensor([frames], device=like.device))
            self._silence = self.decoder.prepared(memory)
        return self._silence
