"""The model card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping

from s2s.models.bundle import Bundle
from s2s.version import __version__


def model_card(bundle: Bundle, name: str, title: str, training_data: str, results: Mapping[str, str]) -> str:
    """Markdown for people: what the model is, how to use it, what it was trained on, what it scored."""
    features = bundle.features.config
    millions = sum(p.numel() for p in bundle.model.parameters()) / 1e6
    lines = [
        f"# {title}",
        "",
        f"Made with s2s {__version__}. {type(bundle.model).__name__} of {millions:.2f} M parameters, "
        f"{features.num_mel_bins} log-mel bins at {features.sampling_rate} Hz, "
        f"{bundle.tokenizer.kind} tokenizer with {bundle.tokenizer.vocab_size} pieces.",
        "",
        "## Use",
        "",
        "```sh",
        f"s2s transcribe --model {name} recording.wav",
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
