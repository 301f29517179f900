"""Attention-only beam search by transformers' `generate`, over the memories and with the weights of an s2s model.

Runs in the peers' environment (setup.sh), not in that of s2s; `benchmarks/decoding.py` calls it. README.md has the
format of WORK_DIR and of the answer. The model is Speech2TextForConditionalGeneration; its decoder has our weights and
is given our memories, so the search alone is timed; its encoder, timed apart, has random weights and the same sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor, Speech2TextConfig, Speech2TextForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

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


def batched(utterances: list[dict[str, Any]], batch_size: int) -> list[list[dict[str, Any]]]:
    """Batches of utterances of about the same length."""
    ordered = sorted(utterances, key=lambda utterance: utterance["frames"])
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def timed(name: str, run: Callable[[list[Any]], Any], batches: list[list[Any]], repeats: int) -> list[float]:
    """Seconds of each repeat over all batches."""
    run(batches[0])  # warm-up
    seconds = []
    for repeat in range(repeats):
        started = time.perf_counter()
        for number, batch in enumerate(batches, 1):
            run(batch)
            print(f"transformers: {name} {repeat + 1}: batch {number} of {len(batches)}", file=sys.stderr)
        seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder that benchmarks/decoding.py made")
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, help="decode only the first so many utterances")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = json.loads((options.work / "work.json").read_text(encoding="utf-8"))
    utterances = work["utterances"][: options.limit]
    memories = load_file(options.work / "memory.safetensors")
    features = load_file(options.work / "features.safetensors")
    weights = load_file(options.work / "model.safetensors")
    model = load_model(work, weights, next(iter(features.values())).size(-1))

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

    search_seconds = timed("search", decode, batched(utterances, BATCH_SIZE), options.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB; before the encoder runs
    hypotheses = []
    for batch in batched(utterances, BATCH_SIZE):  # not timed: asking for scores costs time
        answer = decode(batch, output_scores=True)
        for utterance, ids, score in zip(
            batch, answer.sequences.tolist(), answer.sequences_scores.tolist(), strict=True
        ):
            tokens = ids[1 : ids.index(work["eos_id"], 1)] if work["eos_id"] in ids[1:] else ids[1:]
            hypotheses.append({"id": utterance["id"], "tokens": tokens, "score": score})
    record = {
        "peer": "transformers",
        "versions": {name: version(name) for name in ("transformers", "torch")},
        "threads": options.threads,
        "search_seconds": search_seconds,
        "encoder_seconds": timed("encoder", encode, batched(utterances, BATCH_SIZE), options.repeats),
        "alone": {
            "search_seconds": timed("search alone", decode, batched(utterances, 1), options.repeats),
            "encoder_seconds": timed("encoder alone", encode, batched(utterances, 1), options.repeats),
        },
        "peak_rss_mb": peak,
        "hypotheses": hypotheses,
        "settings": {
            "search": "generate",
            "batch_size": BATCH_SIZE,
            "beam_size": work["beam_size"],
            "ctc_weight": 0.0,
            "attention": model.config._attn_implementation,
        },
        "notes": "attention alone; search_seconds is generate given the encoder's states; encoder_seconds is its own "
        "encoder, Transformer and not Conformer layers, with random weights; the decoder's weights and the memories "
        "are those of s2s",
    }
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
