"""`s2s info`: what a bundle or a training folder holds, and what is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def info(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Bundle or training folder.")] = None,
) -> None:
    """Describe a bundle or a training folder; without one, what is installed and which kernels are used."""
    facts = installed() if folder is None else described(folder)
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{width}}  {value}")


def installed() -> dict[str, str]:
    """Versions and devices of this machine."""
    import platform
    from importlib.metadata import version

    import torch

    from s2s.optional import torchaudio
    from s2s.version import __version__

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names = ("lhotse", "sentencepiece", "hydra-core", "lightning-fabric", "jiwer", "sacrebleu", "soundfile", "soxr")
    return {
        "s2s": __version__,
        "python": platform.python_version(),
        "torch": f"{version('torch')}, {torch.get_num_threads()} threads",
        "torchaudio": torchaudio()[1],
        "devices": ", ".join(["cpu", *devices]),
        **{name: version(name) for name in names},
    }


def described(folder: Path) -> dict[str, str]:
    """What is in a bundle; of a training folder also how far it came."""
    from torch import nn

    from s2s.models.bundle import Bundle, load_bundle
    from s2s.models.lm_bundle import is_language_model
    from s2s.models.translation_bundle import is_translation_bundle
    from s2s.tokenizers.joint import prompt_tokens
    from s2s.training.checkpoint import latest_training, load_trained, load_training
    from s2s.training.curves import read_metrics

    facts = {"folder": str(folder)}
    bundle_folder = folder
    saved = latest_training(folder / "states")
    if saved:
        bundle_folder = saved
        progress = load_training(bundle_folder)[2]
        kept = ", ".join(f"epoch {epoch} ({loss:.4f})" for loss, epoch in progress.best)
        facts["training"] = f"{progress.epoch} epochs, {progress.steps} steps, {progress.seconds / 60:.1f} min"
        facts["best by validation loss"] = kept or "none yet"
        for record in read_metrics(folder / "metrics.jsonl")[-1:]:
            for name, title in (("ctc_error", "last CTC greedy error"), ("token_error", "last wrong next tokens")):
                if f"valid_{name}" in record:
                    facts[title] = f"{100 * record[f'valid_{name}']:.2f} %"
    of_text = is_language_model(bundle_folder) or is_translation_bundle(bundle_folder)
    bundle = load_trained(bundle_folder) if of_text else load_bundle(bundle_folder, "cpu", nn.Module)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in bundle.model.named_children()}
    facts["model"] = type(bundle.model).__name__
    facts["parameters"] = f"{sum(sizes.values()):,} ({', '.join(f'{k} {v:,}' for k, v in sizes.items() if v)})"
    if isinstance(bundle, Bundle):
        features = bundle.features.config
        facts["features"] = f"{features.num_mel_bins} log-mel bins at {features.sampling_rate} Hz"
    facts["tokenizer"] = f"{bundle.tokenizer.kind}, {bundle.tokenizer.vocab_size} pieces"
    if tokens := prompt_tokens(bundle.tokenizer):
        facts["prompts"] = f"{', '.join(tokens.languages)}; {', '.join(tokens.tasks)}"
    return facts
