"""Training steps of ESPnet's Conformer hybrid on the batch of `benchmarks/training.py`, which calls this.

Runs in the peers' environment (setup.sh). Its own model class with its own modules, of the sizes of the work.
"""

from __future__ import annotations

from argparse import ArgumentParser

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from steps import TrainingWork, measure


def main() -> None:
    work = TrainingWork(ArgumentParser(description=__doc__))
    sizes = work.config
    encoder = ConformerEncoder(
        input_size=work.source.size(-1),
        output_size=sizes["model_dim"],
        attention_heads=sizes["num_heads"],
        linear_units=sizes["feed_forward_dim"],
        num_blocks=sizes["encoder_layers"],
        dropout_rate=sizes["dropout"],
        attention_dropout_rate=sizes["dropout"],
        macaron_style=True,
        rel_pos_type="latest",
        pos_enc_layer_type="rel_pos",
        selfattention_layer_type="rel_selfattn",
        activation_type="swish",
        cnn_module_kernel=sizes["kernel_size"],
    )
    decoder = TransformerDecoder(
        vocab_size=sizes["vocab_size"],
        encoder_output_size=sizes["model_dim"],
        attention_heads=sizes["num_heads"],
        linear_units=sizes["feed_forward_dim"],
        num_blocks=sizes["decoder_layers"],
        dropout_rate=sizes["dropout"],
        self_attention_dropout_rate=sizes["dropout"],
        src_attention_dropout_rate=sizes["dropout"],
    )
    size = sizes["vocab_size"]
    model = ESPnetASRModel(
        vocab_size=size,
        token_list=["<blank>", "<unk>", *map(str, range(2, size - 1)), "<sos/eos>"],
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=decoder,
        ctc=CTC(size, sizes["model_dim"]),
        joint_network=None,
        ctc_weight=sizes["ctc_weight"],
        lsm_weight=sizes["label_smoothing"],
        report_cer=False,
        report_wer=False,
    )

    def loss() -> torch.Tensor:
        found: torch.Tensor = model(work.source, work.source_lengths, work.target, work.target_lengths)[0]
        return found

    measure(work, model, loss, ("espnet", "torch"), "ESPnetASRModel, relative positions, macaron feed-forwards")


if __name__ == "__main__":
    main()
