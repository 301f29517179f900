"""The model card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s2s.models.bundle import Bundle
from s2s.models.lm_bundle import LanguageModelBundle
from s2s.models.multi_source import MultiSourceEncoder
from s2s.models.translation_bundle import TranslationBundle
from s2s.tokenizers.joint import prompt_tokens
from s2s.version import __version__


def model_card(
    bundle: Bundle[Any] | TranslationBundle | LanguageModelBundle,
    name: str,
    title: str,
    training_data: str,
    results: Mapping[str, str],
) -> str:
    """Markdown for people: what the model is, how to use it, what it was trained on, what it scored."""
    millions = sum(p.numel() for p in bundle.model.parameters()) / 1e6
    heard, command = "", f"s2s translate --model {name} text.txt"
    if isinstance(bundle, Bundle):
        features = bundle.features.config
        heard = f"{features.num_mel_bins} log-mel bins at {features.sampling_rate} Hz, "
        command = f"s2s transcribe --model {name}{_spoken(bundle)} recording.wav"
        if getattr(bundle.model, "text_encoder", None) is not None:
            command = f"s2s decode --model {name}{_spoken(bundle)} --data DATA_WITH_TEXT --out OUT"
    elif isinstance(bundle, LanguageModelBundle):
        command = f"s2s decode --model DIR --data DATA --out OUT decoding.lm={name}"
    elif isinstance(bundle.model.encoder, MultiSourceEncoder):
        command = f"s2s translate --model {name} text.txt --also other.txt"
    elif prompt_tokens(bundle.tokenizer):
        source, target = (*bundle.tokenizer.languages, *bundle.tokenizer.languages)[:2]
        command = f"s2s translate --model {name} --source-language {source} --target-language {target} text.txt"
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


def _spoken(bundle: Bundle[Any]) -> str:
    """Options of a model that has to be told what is spoken."""
    tokens = prompt_tokens(bundle.tokenizer)
    return f" --language {tokens.languages[0]}" if tokens else ""
