"""Training steps of SpeechBrain's Conformer hybrid on the batch of `benchmarks/training.py`, which calls this.

Runs in the peers' environment (setup.sh). The modules and losses of its LibriSpeech Conformer recipe, of the sizes of
the work, its front with as many channels as the model is wide, or with others (its recipe has 64 and 32).
"""

from __future__ import annotations

from argparse import ArgumentParser

import torch
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss, kldiv_loss
from steps import TrainingWork, measure
from torch import nn


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--front-channels", type=int, nargs=2, help="of its two convolutions (default: the width)")
    work = TrainingWork(parser)
    sizes = work.config
    width, size = sizes["model_dim"], sizes["vocab_size"]
    channels = work.options.front_channels or [width, width]
    front = ConvolutionFrontEnd(
        input_shape=tuple(work.source.shape),
        num_blocks=2,
        num_layers_per_block=1,
        out_channels=tuple(channels),
        kernel_sizes=(3, 3),
        strides=(2, 2),
        residuals=(False, False),
    )
    transformer = TransformerASR(
        tgt_vocab=size,
        input_size=channels[1] * -(-work.source.size(-1) // 4),
        d_model=width,
        nhead=sizes["num_heads"],
        num_encoder_layers=sizes["encoder_layers"],
        num_decoder_layers=sizes["decoder_layers"],
        d_ffn=sizes["feed_forward_dim"],
        dropout=sizes["dropout"],
        activation=nn.GELU,
        kernel_size=sizes["kernel_size"],
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        normalize_before=True,
        causal=False,
    )
    ctc_out, out = Linear(n_neurons=size, input_size=width), Linear(n_neurons=size, input_size=width)
    model = nn.ModuleList((front, transformer, ctc_out, out))
    eos = torch.full((len(work.target), 1), sizes["eos_id"])
    given = torch.cat((torch.full_like(eos, sizes["bos_id"]), work.target), dim=1)
    wanted = torch.cat((work.target, eos), dim=1)  # all targets of the work are as long
    source_share = work.source_lengths / work.source.size(1)
    whole = torch.ones(len(work.target))

    def loss() -> torch.Tensor:
        states, predicted = transformer(front(work.source), given, source_share, pad_idx=sizes["blank_id"])
        ctc = ctc_loss(
            ctc_out(states).log_softmax(dim=-1), work.target, source_share, whole, blank_index=sizes["blank_id"]
        )
        attention = kldiv_loss(
            out(predicted).log_softmax(dim=-1), wanted, whole, label_smoothing=sizes["label_smoothing"]
        )
        return sizes["ctc_weight"] * ctc + (1 - sizes["ctc_weight"]) * attention

    notes = f"LibriSpeech Conformer recipe, a front of {channels[0]} and {channels[1]} channels"
    measure(work, model, loss, ("speechbrain", "torch"), notes)


if __name__ == "__main__":
    main()
