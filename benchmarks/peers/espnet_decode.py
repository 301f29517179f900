"""Joint CTC/attention beam search by ESPnet, over the memories and with the weights of an s2s model.

Runs in the peers' environment (setup.sh), not in that of s2s; `benchmarks/decoding.py` calls it. README.md has the
format of WORK_DIR and of the answer. The decoder and the CTC layer are ESPnet's own modules with our weights; the
encoder, timed apart, is ESPnet's Conformer of the same sizes with random weights.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.scorer_interface import BatchScorerInterface
from espnet.nets.scorers.ctc import CTCPrefixScorer
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from torch import Tensor
from work import Work, arguments, peak_rss_mb, timed, write_answer

NEVER = float("-inf")
NAMES = (  # of a parameter of our decoder, and of ESPnet's
    (r"^embedding\.", "embed.0."),
    (r"^norm\.", "after_norm."),
    (r"^out\.", "output_layer."),
    (r"^layers\.", "decoders."),
    (r"self_attention\.heads\.", "self_attn.linear_"),
    (r"memory_attention\.heads\.", "src_attn.linear_"),
    (r"linear_([qkv])[a-z]+", r"linear_\1"),
    (r"feed_forward\.expand", "feed_forward.w_1"),
    (r"feed_forward\.contract", "feed_forward.w_2"),
    (r"norm_self", "norm1"),
    (r"norm_memory", "norm2"),
    (r"norm_feed_forward", "norm3"),
)


class Allowed(BatchScorerInterface):
    """Adds 0 to a token that may come next and -inf to one that may not, as s2s does.

    blank and bos never may. With a `length`, eos may not before that many tokens, and after them nothing else may.
    """

    def __init__(self, work: dict[str, Any]) -> None:
        self.length: int | None = None
        self.always = torch.zeros(work["vocab_size"])
        self.always[[work["blank_id"], work["bos_id"]]] = NEVER
        self.before = self.always.clone()
        self.before[work["eos_id"]] = NEVER
        self.end = torch.full((work["vocab_size"],), NEVER)
        self.end[work["eos_id"]] = 0.0

    def batch_score(self, ys: Tensor, states: list[None], xs: Tensor) -> tuple[Tensor, None]:
        if self.length is None:
            scores = self.always
        else:
            scores = self.before if ys.size(1) - 1 < self.length else self.end  # sos is not counted
        return scores.expand(len(ys), -1), None


def load_decoder(work: dict[str, Any], weights: dict[str, Tensor]) -> TransformerDecoder:
    decoder = TransformerDecoder(
        vocab_size=work["vocab_size"],
        encoder_output_size=work["model_dim"],
        attention_heads=work["num_heads"],
        linear_units=work["feed_forward_dim"],
        num_blocks=work["decoder_layers"],
    )
    renamed = {}
    for name, value in weights.items():
        if name.startswith("decoder."):
            name = name.removeprefix("decoder.")
            for ours, theirs in NAMES:
                name = re.sub(ours, theirs, name)
            renamed[name] = value
    decoder.load_state_dict(renamed)
    for module in decoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5  # ours; ESPnet's is 1e-12
    return decoder.eval()


def load_search(work: dict[str, Any], weights: dict[str, Tensor]) -> tuple[BatchBeamSearch, Allowed]:
    ctc = CTC(work["vocab_size"], work["model_dim"]).eval()
    ctc.load_state_dict({"ctc_lo.weight": weights["ctc.out.weight"], "ctc_lo.bias": weights["ctc.out.bias"]})
    allowed = Allowed(work)
    search = BatchBeamSearch(
        scorers={
            "decoder": load_decoder(work, weights),
            "ctc": CTCPrefixScorer(ctc, work["eos_id"]),
            "allowed": allowed,
        },
        weights={"decoder": 1 - work["ctc_weight"], "ctc": work["ctc_weight"], "allowed": 1.0},
        beam_size=work["beam_size"],
        vocab_size=work["vocab_size"],
        sos=work["bos_id"],
        eos=work["eos_id"],
        pre_beam_ratio=(work["num_candidates"] + 0.5) / work["beam_size"],  # it is multiplied and rounded down
        pre_beam_score_key="full",
    )
    return search.eval(), allowed


def main() -> None:
    options = arguments(__doc__).parse_args()
    loaded = Work(options)
    work, utterances = loaded.config, loaded.utterances
    search, allowed = load_search(work, loaded.weights)
    encoder = ConformerEncoder(
        input_size=next(iter(loaded.features.values())).size(-1),
        output_size=work["model_dim"],
        attention_heads=work["num_heads"],
        linear_units=work["feed_forward_dim"],
        num_blocks=work["encoder_layers"],
        macaron_style=True,
        rel_pos_type="latest",
        cnn_module_kernel=31,
    ).eval()

    def decode(utterance: dict[str, Any]) -> dict[str, Any]:
        length = utterance["length"] if work["forced_length"] else None
        allowed.length = length
        # A negative ratio is a count. At the maximum the search appends an unscored eos to what is left; this leaves
        # nothing, for all end with the step before. A ratio of 0 is ESPnet's end detection.
        best = search(loaded.memories[utterance["id"]], maxlenratio=0.0 if length is None else -(length + 2.0))[0]
        return {"id": utterance["id"], "tokens": best.yseq[1:-1].tolist(), "score": float(best.score)}

    def encode(utterance: dict[str, Any]) -> None:
        source = loaded.features[utterance["id"]]
        encoder(source[None], torch.tensor([len(source)]))

    shortest = utterances[0]
    search_seconds, hypotheses = timed("espnet: search", decode, utterances, options.repeats, shortest)
    peak = peak_rss_mb()  # before the encoder runs
    write_answer(
        options,
        ("espnet", "torch"),
        search_seconds=search_seconds,
        encoder_seconds=timed("espnet: encoder", encode, utterances, options.repeats, shortest)[0],
        peak_rss_mb=peak,
        hypotheses=hypotheses,
        settings={
            "search": "BatchBeamSearch",
            "batch_size": 1,
            "beam_size": work["beam_size"],
            "ctc_weight": work["ctc_weight"],
            "pre_beam_size": search.pre_beam_size,
        },
        notes="the decoder's and CTC's weights and the memories are those of s2s, layer norms have its epsilon, and "
        "a scorer of zeros and -inf allows the same tokens; the encoder has random weights",
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
