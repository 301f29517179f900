"""Joint CTC/attention beam search by SpeechBrain, over the memories and with the weights of an s2s model.

Runs in the peers' environment (setup.sh), not in that of s2s; `benchmarks/decoding.py` calls it. README.md has the
format of WORK_DIR and of the answer. The decoder is that of SpeechBrain's TransformerASR with our weights. Batches are
of up to 8 utterances, sorted by length.
"""

from __future__ import annotations

from typing import Any

import torch
from speechbrain.decoders import CTCScorer, S2STransformerBeamSearcher, ScorerBuilder
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.linear import Linear
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from work import Work, arguments, peak_rss_mb, timed, write_answer

NEVER = float("-inf")
BATCH_SIZE = 8
MODULES = {  # of a layer: ours, and SpeechBrain's
    "norm_self": "norm1",
    "norm_memory": "norm2",
    "norm_feed_forward": "norm3",
    "feed_forward.expand": "pos_ffn.ffn.0",
    "feed_forward.contract": "pos_ffn.ffn.3",
    "self_attention.heads.out": "self_attn.att.out_proj",
    "memory_attention.heads.out": "multihead_attn.att.out_proj",
}


class Searcher(S2STransformerBeamSearcher):
    """SpeechBrain's search, in which every utterance may use the tokens that s2s allows.

    blank and bos never may come. With `lengths` (B,), eos may not before that many tokens, and after them nothing else.
    """

    lengths: Tensor | None = None
    forbidden: Tensor  # (V,) bool

    def forward_step(self, inp_tokens: Tensor, memory: Any, enc_states: Tensor, enc_lens: Tensor) -> Any:
        log_probs, memory, attention = super().forward_step(inp_tokens, memory, enc_states, enc_lens)
        forbidden = self.forbidden
        if self.lengths is not None:
            at_end = (memory.size(1) - 1 >= self.lengths).repeat_interleave(self.beam_size)  # bos is not counted
            is_eos = torch.arange(len(forbidden)) == self.eos_index
            forbidden = forbidden | (is_eos != at_end.unsqueeze(1))
        return log_probs.masked_fill(forbidden, NEVER), memory, attention


def linear(weight: Tensor, bias: Tensor) -> Linear:
    layer = Linear(n_neurons=weight.size(0), input_size=weight.size(1))
    layer.load_state_dict({"w.weight": weight, "w.bias": bias})
    return layer


def load_decoder(work: dict[str, Any], weights: dict[str, Tensor]) -> TransformerASR:
    model = TransformerASR(
        tgt_vocab=work["vocab_size"],
        input_size=work["model_dim"],
        d_model=work["model_dim"],
        nhead=work["num_heads"],
        num_encoder_layers=0,
        num_decoder_layers=work["decoder_layers"],
        d_ffn=work["feed_forward_dim"],
        normalize_before=True,
        causal=False,
    )
    state = {"custom_tgt_module.layers.0.emb.Embedding.weight": weights["decoder.embedding.weight"]}
    for kind in ("weight", "bias"):
        state[f"decoder.norm.norm.{kind}"] = weights[f"decoder.norm.{kind}"]
        for number in range(work["decoder_layers"]):
            ours, theirs = f"decoder.layers.{number}", f"decoder.layers.{number}"
            for name, renamed in MODULES.items():
                inner = ".norm" if renamed.startswith("norm") else ""
                state[f"{theirs}.{renamed}{inner}.{kind}"] = weights[f"{ours}.{name}.{kind}"]
            for name, renamed in (("self_attention", "self_attn"), ("memory_attention", "multihead_attn")):
                state[f"{theirs}.{renamed}.att.in_proj_{kind}"] = torch.cat(
                    [weights[f"{ours}.{name}.heads.{projection}.{kind}"] for projection in ("query", "key", "value")]
                )
    missing, unexpected = model.load_state_dict(state, strict=False)
    # What else it has: a layer before an encoder that is not there, and position encodings, which are equal to ours.
    missing = [name for name in missing if not name.startswith(("custom_src_module.", "positional_encoding."))]
    assert not missing, missing
    assert not unexpected, unexpected
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5  # ours; SpeechBrain's is 1e-6
    return model.eval()


def load_search(work: dict[str, Any], weights: dict[str, Tensor]) -> Searcher:
    ctc = linear(weights["ctc.out.weight"], weights["ctc.out.bias"])
    search = Searcher(
        modules=[load_decoder(work, weights), linear(weights["decoder.out.weight"], weights["decoder.out.bias"])],
        bos_index=work["bos_id"],
        eos_index=work["eos_id"],
        min_decode_ratio=0.0,
        max_decode_ratio=1.0,
        beam_size=work["beam_size"],
        scorer=ScorerBuilder(
            weights={"ctc": work["ctc_weight"]},
            partial_scorers=[CTCScorer(ctc, work["blank_id"], work["eos_id"])],
            scorer_beam_scale=(work["num_candidates"] + 0.5) / work["beam_size"],  # it is multiplied and rounded down
        ),
        using_eos_threshold=False,
        length_normalization=False,
    )
    search.forbidden = torch.zeros(work["vocab_size"], dtype=torch.bool)
    search.forbidden[[work["blank_id"], work["bos_id"]]] = True
    return search.eval()


def main() -> None:
    options = arguments(__doc__).parse_args()
    loaded = Work(options)
    work, batches = loaded.config, loaded.batches(BATCH_SIZE)
    search = load_search(work, loaded.weights)

    def decode(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        states = pad_sequence([loaded.memories[u["id"]] for u in batch], batch_first=True)  # (B,T,D)
        if work["forced_length"]:
            search.lengths = torch.tensor([u["length"] for u in batch])
            # The ratio is of T and rounded down; one more step is for eos.
            search.max_decode_ratio = (int(search.lengths.max()) + 1.5) / states.size(1)
        lengths = torch.tensor([u["frames"] for u in batch], dtype=torch.double) / states.size(1)
        tokens, _, scores, _ = search(states, lengths)
        return [
            {"id": u["id"], "tokens": list(map(int, best)), "score": float(score)}
            for u, best, score in zip(batch, tokens, scores, strict=True)
        ]

    search_seconds, found = timed("speechbrain: search", decode, batches, options.repeats, batches[0][:1])
    write_answer(
        options,
        ("speechbrain", "torch"),
        search_seconds=search_seconds,
        encoder_seconds=[],
        peak_rss_mb=peak_rss_mb(),
        hypotheses=[hypothesis for batch in found for hypothesis in batch],
        settings={
            "search": "S2STransformerBeamSearcher",
            "batch_size": BATCH_SIZE,
            "beam_size": work["beam_size"],
            "ctc_weight": work["ctc_weight"],
            "ctc_candidates": int(work["beam_size"] * search.scorer.scorer_beam_scale),
        },
        notes="the decoder's and CTC's weights and the memories are those of s2s, layer norms have its epsilon, and "
        "the same tokens are allowed; its encoder is not timed",
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
