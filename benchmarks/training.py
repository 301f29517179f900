"""A step of training of the Conformer hybrid: s2s against ESPnet and SpeechBrain, the same batch and sizes.

The model is that of decoding.py by default: 12 Conformer layers and 6 decoder layers of width 256. A step is the
forward pass, CTC and attention loss, backward pass, clipping and AdamW, in float32. Each toolkit has its own modules
and a process of its own; they take turns, and medians are of all steps. SpeechBrain's recipe has a small front, of 64
and 32 channels, a fifth less to calculate: it and s2s are measured with the model's front, of as many channels as the
model is wide, and with a small one, ours of 64 and 64. peers/setup.sh makes the peers' environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from work import TOKENS_PER_SECOND, add_model_options, model_config, provenance, speech_features, write_record

from decoding import HERE, Answer, run
from s2s.errors import UserError
from s2s.models.build import build

OURS, SPEECHBRAIN, SMALL = "s2s_train.py", "peers/speechbrain_train.py", ", small front"
SCRIPTS = {
    "s2s": [OURS],
    "espnet": ["peers/espnet_train.py"],
    "speechbrain": [SPEECHBRAIN],
    f"s2s{SMALL}": [OURS, "--front-channels", "64"],
    f"speechbrain{SMALL}": [SPEECHBRAIN, "--front-channels", "64", "32"],
}
PEERS = ("espnet", "speechbrain")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--batch-size", type=int, default=8, help="utterances in the batch")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each utterance")
    parser.add_argument("--rounds", type=int, default=2, help="how often each toolkit has its turn")
    parser.add_argument("--peers", type=Path, default=HERE / ".peers", help="environment that peers/setup.sh made")
    parser.add_argument("--without", default="", help=f"peers to leave out, of {','.join(PEERS)}")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training.json")
    options = parser.parse_args()
    if unknown := set(filter(None, options.without.split(","))) - set(PEERS):
        parser.error(f"--without: no peer {', '.join(sorted(unknown))}")
    return options


def make_work(folder: Path, options: argparse.Namespace) -> None:
    """Real speech, random targets that are neither blank nor the ends, and what the model is."""
    features = speech_features(options.data_root, [options.seconds] * options.batch_size)
    model = build(model_config(options, options.vocab_size))
    own = {key: getattr(model, key) for key in ("blank_id", "bos_id", "eos_id", "ctc_weight", "label_smoothing")}
    names = ("model_dim", "num_heads", "feed_forward_dim", "encoder_layers", "decoder_layers", "vocab_size")
    sizes = {key: getattr(options, key) for key in names}
    work = {
        **own,
        **sizes,
        "kernel_size": 31,
        "dropout": 0.1,
        "model": model_config(options, options.vocab_size),
    }
    (folder / "work.json").write_text(json.dumps(work, indent=2) + "\n", encoding="utf-8")
    count = round(TOKENS_PER_SECOND * options.seconds)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "source": pad_sequence(features, batch_first=True),
        "source_lengths": torch.tensor([len(matrix) for matrix in features]),
        "target": torch.randint(4, options.vocab_size - 1, (options.batch_size, count), generator=generator),
        "target_lengths": torch.full((options.batch_size,), count),
    }
    save_file(batch, folder / "batch.safetensors")


def run_all(work: Path, options: argparse.Namespace) -> dict[str, list[Answer]]:
    """The answers of every toolkit, one of each round."""
    left_out = set(options.without.split(","))
    answers: dict[str, list[Answer]] = {name: [] for name in SCRIPTS if name.split(",")[0] not in left_out}
    for number in range(options.rounds):
        for name in answers:
            ours = name.startswith("s2s")
            python = Path(sys.executable) if ours else options.peers / "bin" / "python"
            print(f"{name}, round {number + 1} ...", file=sys.stderr)
            script, *more = SCRIPTS[name]
            answer = run(python, script, work, name, options, "--repeats", str(options.repeats), *more)
            if ours and "left_out" in answer:
                sys.exit(f"error: {script}: {answer['left_out']}")
            answers[name].append(answer)
    return answers


def figures(answers: list[Answer], options: argparse.Namespace) -> Answer:
    """Medians over the steps of all rounds."""
    if "left_out" in answers[0]:
        return answers[0]
    seconds = [each for answer in answers for each in answer["step_seconds"]]
    median = statistics.median(seconds)
    return {
        "step_seconds": median,
        "step_seconds_range": [min(seconds), max(seconds)],
        "steps": len(seconds),
        "utterances_per_second": options.batch_size / median,
        "peak_rss_mb": max(answer["peak_rss_mb"] for answer in answers),
        "parameters": answers[0]["parameters"],
        "losses": answers[0]["losses"],
        **{key: answers[0][key] for key in ("threads", "versions", "notes")},
    }


def summarise(answers: dict[str, list[Answer]], options: argparse.Namespace) -> dict[str, Any]:
    """The record: claims first, then what they are made of."""
    runs = {name: figures(each, options) for name, each in answers.items()}
    claims = {
        f"step: {name} / s2s": found["step_seconds"] / runs[f"s2s{SMALL}" if SMALL in name else "s2s"]["step_seconds"]
        for name, found in runs.items()
        if not name.startswith("s2s") and "left_out" not in found
    }
    names = ("batch_size", "seconds", "rounds", "repeats", "model_dim", "num_heads", "feed_forward_dim")
    names = (*names, "encoder_layers", "decoder_layers", "vocab_size")
    return {
        "claims": claims,
        "runs": runs,
        "work": {name: getattr(options, name) for name in names},
        **provenance(options.threads),
    }


def table(record: dict[str, Any]) -> str:
    lines = [f"{'':26}" + "".join(f"{text:>14}" for text in ("s a step", "utts/s", "peak MiB", "parameters"))]
    for name, found in record["runs"].items():
        if "left_out" in found:
            lines.append(f"{name:26}  left out: {found['left_out']}")
        else:
            cells = (found["step_seconds"], found["utterances_per_second"], found["peak_rss_mb"], found["parameters"])
            lines.append(f"{name:26}" + "".join(f"{cell:>14.4g}" for cell in cells))
    return "\n".join([*lines, "", *(f"{name}: {value:.3g}" for name, value in record["claims"].items())])


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        make_work(Path(temporary), options)
        answers = run_all(Path(temporary), options)
    record = summarise(answers, options)
    write_record(record, options.out)
    print(table(record))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
