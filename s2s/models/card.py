"""The model card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s2s.models.bundle import Bundle
from s2s.models.translation_bundle import TranslationBundle
from s2s.version import __version__


def model_card(
    bundle: Bundle[Any] | TranslationBundle, name: str, title: str, training_data: str, results: Mapping[str, str]
) -> str:
    """Markdown for people: what the model is, how to use it, what it was trained on, what it scored."""
    millions = sum(p.numel() for p in bundle.model.parameters()) / 1e6
    heard, command = "", f"s2s translate --model {name} text.txt"
    if isinstance(bundle, Bundle):
        features = bundle.features.config
        heard = f"{features.num_mel_bins} log-mel bins at {features.sampling_rate} Hz, "
        command = f"s2s transcribe --model {name} recording.wav"
    elif bundle.tokenizer.languages:
        command = f"s2s translate --model {name} --target-language {bundle.tokenizer.languages[0]} text.txt"
    lines = [
        f"# {title}",
        "",
        f"Made with s2s {__version__}. {type(bundle.model).__name__} of {millions:.2f} M parameters, {heard}"
        f"{bundle.tokenizer.kind} tokenizer with {bundle.tokenizer.vocab_size} pieces.",
        "",
        "## Use",
        "",
        "```sh",
        command,
        "```",
        "",
        "## Training data",
        "",
        training_data,
    ]
    if results:
        lines += ["", "## Results", ""]
        for test, text in results.items():
            lines += [f"### {test}", "", "```", text, "```", ""]
    return "\n".join(lines).rstrip() + "\n"
