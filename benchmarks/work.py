"""What the decoding benchmarks share: a model, real speech, the work made of both, and the record they write.

peers/README.md has the format of a work.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet
from safetensors.torch import save_file
from torch import Tensor

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.normalise import FeatureStatistics
from s2s.audio.read import read_audio
from s2s.data.dataset import SpeechDataset
from s2s.data.kaldi import read_kaldi
from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.build import build
from s2s.models.bundle import load_bundle
from s2s.models.hybrid import HybridModel

TOKENS_PER_SECOND = 6


def add_model_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data-root", default=os.environ.get("S2S_DATA"), help="folder with kerstin-german-cc0")
    parser.add_argument("--model-dim", type=int, default=256)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--feed-forward-dim", type=int, default=2048)
    parser.add_argument("--encoder-layers", type=int, default=12)
    parser.add_argument("--decoder-layers", type=int, default=6)
    parser.add_argument("--vocab-size", type=int, default=500)
    parser.add_argument("--beam-size", type=int, default=10)
    parser.add_argument("--ctc-weight", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)


def model_config(options: Namespace, vocab_size: int) -> dict[str, Any]:
    """A Conformer encoder and a Transformer decoder over 80 bins, for `build`."""
    sizes = {key: getattr(options, key) for key in ("model_dim", "num_heads", "feed_forward_dim")}
    subsampling = "s2s.nn.subsampling.ConvolutionSubsampling"
    front = {"_target_": subsampling, "input_dim": 80, "model_dim": options.model_dim, "channels": options.model_dim}
    encoder = {"_target_": "s2s.models.conformer.ConformerEncoder", "front": front, **sizes}
    decoder = {
        "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
        "memory_dim": options.model_dim,
        **sizes,
    }
    return {
        "_target_": "s2s.models.hybrid.HybridModel",
        "vocab_size": vocab_size,
        "normalise": {"_target_": "s2s.audio.normalise.GlobalNormalise", "num_bins": 80},
        "encoder": {**encoder, "num_layers": options.encoder_layers},
        "decoder": {**decoder, "vocab_size": vocab_size, "num_layers": options.decoder_layers},
    }


def random_model(config: Mapping[str, Any], features: Sequence[Tensor]) -> HybridModel:
    """Seeded random weights, those of the outputs three times as large, that hypotheses differ; normalises features."""
    torch.manual_seed(0)
    model = build(config)
    assert isinstance(model, HybridModel)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in ("ctc.out.weight", "decoder.out.weight"):
                weight *= 3
    statistics = FeatureStatistics(features[0].size(1))
    for matrix in features:
        statistics.add(matrix)
    model.normalise.set_statistics(statistics)
    return model.eval()


def speech_features(data_root: str | None, seconds: Sequence[float]) -> list[Tensor]:
    """Features (S,80) of so many seconds each of one German speaker, her clips end to end."""
    audio = Path(data_root or "") / "kerstin-german-cc0" / "audio"
    if not data_root or not audio.is_dir():
        raise UserError(
            f"no real speech in '{audio}'; name the folder that holds kerstin-german-cc0 with --data-root or S2S_DATA"
        )
    fbank = Fbank(FbankConfig()).eval()
    clips = (read_audio(path, fbank.config.sampling_rate)[0] for path in sorted(audio.iterdir()))
    rest, features = torch.zeros(0), []
    for duration in seconds:
        size = round(duration * fbank.config.sampling_rate)
        while len(rest) < size:
            clip = next(clips, None)
            if clip is None:
                raise UserError(f"{audio}: holds less than {sum(seconds):g} s of speech; ask for fewer or shorter ones")
            rest = torch.cat((rest, clip))
        samples, rest = rest[:size], rest[size:]
        features.append(fbank(samples[None], torch.tensor([size]))[0][0])
    return features


def make_random_work(folder: Path, options: Namespace) -> None:
    """`options.utterances` of evenly spread lengths in random order; they must have TOKENS_PER_SECOND tokens."""
    torch.manual_seed(0)
    spread = torch.linspace(options.shortest, options.longest, options.utterances)
    seconds = spread[torch.randperm(options.utterances)].tolist()
    config = model_config(options, options.vocab_size)
    features = speech_features(options.data_root, seconds)
    utterances = [
        {"id": f"utterance-{i}", "seconds": n, "length": max(1, round(TOKENS_PER_SECOND * n))}
        for i, n in enumerate(seconds)
    ]
    _write(folder, options, config, random_model(config, features), utterances, features, forced_length=True)


def make_bundle_work(folder: Path, options: Namespace) -> None:
    """`options.utterances` of a data set, evenly spread over it, and a trained model, free to end where it likes."""
    bundle = load_bundle(options.bundle)
    dataset = SpeechDataset(None, bundle.features)
    found, problems = read_kaldi(options.data)
    for problem in problems:
        if problem.kind != "no_text":
            raise UserError(f"{problem} (relative paths start at {Path.cwd()})")
    cuts = list(found)
    count = min(options.utterances, len(cuts))
    chosen = [cuts[i * len(cuts) // count] for i in range(count)]
    utterances = [{"id": cut.id, "seconds": cut.duration, "length": None} for cut in chosen]
    features = [dataset[CutSet.from_cuts([cut])].source[0] for cut in chosen]
    _write(folder, options, bundle.model_config, bundle.model, utterances, features, forced_length=False)


def _write(
    folder: Path,
    options: Namespace,
    config: Mapping[str, Any],
    model: HybridModel,
    utterances: list[dict[str, Any]],
    features: list[Tensor],
    forced_length: bool,
) -> None:
    memories = []
    for utterance, matrix in zip(utterances, features, strict=True):
        memories.append(model.encode(matrix[None], torch.tensor([len(matrix)])).states[0])
        utterance |= {"frames": len(memories[-1]), "feature_frames": len(matrix)}
    names = [utterance["id"] for utterance in utterances]
    encoder, decoder = config["encoder"], config["decoder"]
    work = {
        "vocab_size": model.vocab_size,
        "blank_id": model.blank_id,
        "bos_id": model.bos_id,
        "eos_id": model.eos_id,
        **{key: decoder[key] for key in ("model_dim", "num_heads", "feed_forward_dim")},
        "encoder_layers": encoder["num_layers"],
        "decoder_layers": decoder["num_layers"],
        "beam_size": options.beam_size,
        "ctc_weight": options.ctc_weight,
        "num_candidates": options.beam_size + (options.beam_size + 1) // 2,
        "forced_length": forced_length,
        "model": dict(config),
        "utterances": utterances,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "work.json").write_text(json.dumps(work, indent=2) + "\n", encoding="utf-8")
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, folder / "model.safetensors")
    save_file(
        {name: states.contiguous() for name, states in zip(names, memories, strict=True)}, folder / "memory.safetensors"
    )
    save_file(
        {name: matrix.contiguous() for name, matrix in zip(names, features, strict=True)},
        folder / "features.safetensors",
    )


def provenance(threads: int) -> dict[str, Any]:
    """Machine, threads, command, date and commit of a record."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    command = shlex.join(["python", *sys.argv])
    if root := os.environ.get("S2S_DATA"):
        command = command.replace(root, "$S2S_DATA")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": threads,
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
    }


def write_record(record: dict[str, Any], out: Path) -> None:
    """Numbers with four digits that count."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        if isinstance(value, list):
            return [rounded(item) for item in value]
        return float(f"{value:.4g}") if isinstance(value, float) else value

    with replacing(out) as beside:
        beside.write_text(json.dumps(rounded(record), indent=2) + "\n", encoding="utf-8")
