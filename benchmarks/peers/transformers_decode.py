"""Attention-only beam search by transformers' `generate`, over the memories and with the weights of an s2s model.

Runs in the peers' environment (setup.sh), not in that of s2s; `benchmarks/decoding.py` calls it. README.md has the
format of WORK_DIR and of the answer. The model is Speech2TextForConditionalGeneration; its decoder has our weights and
is given our memories, so the search alone is timed; its encoder, timed apart, has random weights and the same sizes.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor, Speech2TextConfig, Speech2TextForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from work import Work, arguments, peak_rss_mb, timed, write_answer

NEVER = float("-inf")
BATCH_SIZE = 8
NAMES = (  # of a parameter of our decoder, and of theirs
    (r"^embedding\.", "embed_tokens."),
    (r"^norm\.", "layer_norm."),
    (r"self_attention\.heads\.(\w+)", r"self_attn.\1_proj"),
    (r"memory_attention\.heads\.(\w+)", r"encoder_attn.\1_proj"),
    (r"([qkv])(uery|ey|alue)_proj", r"\1_proj"),
    (r"feed_forward\.expand", "fc1"),
    (r"feed_forward\.contract", "fc2"),
    (r"norm_self", "self_attn_layer_norm"),
    (r"norm_memory", "encoder_attn_layer_norm"),
    (r"norm_feed_forward", "final_layer_norm"),
)


class Allowed(LogitsProcessor):
    """Leaves the tokens that s2s allows and makes the others -inf.

    blank and bos never may come. With `lengths` (N,), eos may not before that many tokens, and after them nothing else.
    """

    def __init__(self, work: dict[str, Any], lengths: Tensor | None) -> None:
        self.eos_id = work["eos_id"]
        self.forbidden = torch.zeros(work["vocab_size"], dtype=torch.bool)
        self.forbidden[[work["blank_id"], work["bos_id"]]] = True
        self.is_eos = torch.arange(work["vocab_size"]) == self.eos_id
        self.lengths = lengths

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forbidden = self.forbidden
        if self.lengths is not None:
            at_end = (input_ids.size(1) - 1 >= self.lengths).unsqueeze(1)  # bos is not counted
            forbidden = forbidden | (self.is_eos != at_end)
        return scores.masked_fill(forbidden, NEVER)


def sinusoidal(length: int, dim: int) -> Tensor:
    """Position encodings (length, dim) as s2s has them, sines and cosines in turn; theirs are in two halves."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(length).unsqueeze(-1) * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def load_model(
    work: dict[str, Any], weights: dict[str, Tensor], feature_dim: int
) -> Speech2TextForConditionalGeneration:
    max_length = max(u["frames"] for u in work["utterances"]) + 8
    config = Speech2TextConfig(
        vocab_size=work["vocab_size"],
        d_model=work["model_dim"],
        encoder_layers=work["encoder_layers"],
        encoder_attention_heads=work["num_heads"],
        encoder_ffn_dim=work["feed_forward_dim"],
        decoder_layers=work["decoder_layers"],
        decoder_attention_heads=work["num_heads"],
        decoder_ffn_dim=work["feed_forward_dim"],
        input_feat_per_channel=feature_dim,
        max_source_positions=max_length,
        max_target_positions=max_length,
        pad_token_id=work["blank_id"],
        bos_token_id=work["bos_id"],
        eos_token_id=work["eos_id"],
        decoder_start_token_id=work["bos_id"],
        scale_embedding=True,
        tie_word_embeddings=False,
    )
    model = Speech2TextForConditionalGeneration(config)
    decoder = model.model.decoder
    model.lm_head = nn.Linear(work["model_dim"], work["vocab_size"])  # theirs has no bias
    model.lm_head.load_state_dict({name: weights[f"decoder.out.{name}"] for name in ("weight", "bias")})
    renamed = {}
    for name, value in weights.items():
        if name.startswith("decoder.") and not name.startswith("decoder.out."):
            name = name.removeprefix("decoder.")
            for ours, theirs in NAMES:
                name = re.sub(ours, theirs, name)
            renamed[name] = value
    decoder.load_state_dict(renamed)
    positions = decoder.embed_positions.weights
    first = work["blank_id"] + 1  # they count positions from the one after that of padding
    positions[first:] = sinusoidal(len(positions) - first, work["model_dim"])
    return model.eval()


def main() -> None:
    options = arguments(__doc__).parse_args()
    loaded = Work(options)
    work, memories, features = loaded.config, loaded.memories, loaded.features
    model = load_model(work, loaded.weights, next(iter(features.values())).size(-1))
    batches, alone = loaded.batches(BATCH_SIZE), loaded.batches(1)

    def decode(batch: list[dict[str, Any]], output_scores: bool = False) -> Any:
        lengths = None
        if work["forced_length"]:
            lengths = torch.tensor([u["length"] for u in batch]).repeat_interleave(work["beam_size"])
        # Their mask is over features; 4 T of them become T frames.
        mask = pad_sequence([torch.ones(4 * u["frames"], dtype=torch.long) for u in batch], batch_first=True)
        return model.generate(
            encoder_outputs=BaseModelOutput(pad_sequence([memories[u["id"]] for u in batch], batch_first=True)),
            attention_mask=mask,
            logits_processor=[Allowed(work, lengths)],
            num_beams=work["beam_size"],
            do_sample=False,
            length_penalty=0.0,  # scores are sums
            use_cache=True,
            max_new_tokens=max(u["frames"] for u in batch) if lengths is None else int(lengths.max()) + 2,
            output_scores=output_scores,
            return_dict_in_generate=True,
        )

    def encode(batch: list[dict[str, Any]]) -> None:
        mask = pad_sequence([torch.ones(u["feature_frames"], dtype=torch.long) for u in batch], batch_first=True)
        model.get_encoder()(pad_sequence([features[u["id"]] for u in batch], batch_first=True), attention_mask=mask)

    def seconds(name: str, run: Any, batches: list[Any]) -> list[float]:
        return timed(f"transformers: {name}", run, batches, options.repeats, batches[0][:1])[0]

    search_seconds = seconds("search", decode, batches)
    peak = peak_rss_mb()  # before the encoder runs
    hypotheses = []
    for batch in batches:  # not timed: asking for scores costs time
        answer = decode(batch, output_scores=True)
        for utterance, ids, score in zip(
            batch, answer.sequences.tolist(), answer.sequences_scores.tolist(), strict=True
        ):
            tokens = ids[1 : ids.index(work["eos_id"], 1)] if work["eos_id"] in ids[1:] else ids[1:]
            hypotheses.append({"id": utterance["id"], "tokens": tokens, "score": score})
    write_answer(
        options,
        ("transformers", "torch"),
        search_seconds=search_seconds,
        encoder_seconds=seconds("encoder", encode, batches),
        alone={
            "search_seconds": seconds("search alone", decode, alone),
            "encoder_seconds": seconds("encoder alone", encode, alone),
        },
        peak_rss_mb=peak,
        hypotheses=hypotheses,
        settings={
            "search": "generate",
            "batch_size": BATCH_SIZE,
            "beam_size": work["beam_size"],
            "ctc_weight": 0.0,
            "attention": model.config._attn_implementation,
        },
        notes="attention alone; search_seconds is generate given the encoder's states; encoder_seconds is its own "
        "encoder, Transformer and not Conformer layers, with random weights; the decoder's weights and the memories "
        "are those of s2s",
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
