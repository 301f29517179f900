"""Checkpoints as Hugging Face's transformers and OpenAI write them: tensors and settings from folders and files."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.errors import UserError

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ("*.json", "*.txt", "*.spm", "model.safetensors", "model-*.safetensors", "model.bin")

# transformers' names of the parts of an encoder-decoder, and ours
HUGGINGFACE_NAMES = (
    (r"^model\.", ""),
    (r"\.conv1\.", ".front.convolutions.0."),
    (r"\.conv2\.", ".front.convolutions.1."),
    (r"\.embed_positions\.", ".positions."),
    (r"\.embed_tokens\.", ".embedding."),
    (r"\.self_attn_layer_norm\.", ".norm_self."),
    (r"\.encoder_attn_layer_norm\.", ".norm_memory."),
    (r"\.final_layer_norm\.", ".norm_feed_forward."),
    (r"\.layer_norm\.", ".norm."),
    (r"\.self_attn\.", ".self_attention.heads."),
    (r"\.encoder_attn\.", ".memory_attention.heads."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.fc1\.", ".feed_forward.expand."),
    (r"\.fc2\.", ".feed_forward.contract."),
)


def rename(tensors: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The tensors under names in which the patterns, one after the other, are replaced."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def from_hub(repository: str, files: Sequence[str] = HUB_FILES) -> Path:
    """The folder with the weights, configs and vocabulary of a repository of the Hugging Face hub ("owner/name").

    `files` are patterns of what is fetched. The hub's own cache keeps it, and without network gives it. Raises
    UserError where it has none, and where there is no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    where = f"{repository}: there is no such path here, and as a repository of the Hugging Face hub it"
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files)))
    except RepositoryNotFoundError as error:
        raise UserError(f"{where} does not exist or is not public") from error
    except HfHubHTTPError as error:
        raise UserError(f"{where} cannot be had: {str(error).splitlines()[0]}") from error
    except LocalEntryNotFoundError as error:
        raise UserError(f"{where} cannot be reached; give a folder, or run again with a network") from error
    except Exception as error:  # of the hub's HTTP library, whichever it is
        raise UserError(f"{where} cannot be had: {type(error).__name__}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; UserError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of names to values")
    return content


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`, or of the several files that `model.safetensors.index.json` names.

    Raises UserError for a file that is missing, cut, or outside the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = {WEIGHTS}
    if not (folder / WEIGHTS).exists() and (folder / INDEX).exists():
        named = read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(f, str) and Path(f).name == f for f in named.values()):
            raise UserError(f"{folder / INDEX}: weight_map: expected the name of a file beside it for every tensor")
        files = set(named.values())
    tensors: dict[str, Tensor] = {}
    for file in sorted(files):
        if not (folder / file).is_file():
            raise UserError(f"{folder / file}: no such file; weights are read from safetensors only")
        try:
            tensors.update(load_file(folder / file))
        except SafetensorError as error:
            raise UserError(f"{folder / file}: not a whole safetensors file ({error}); copy it again") from error
    return tensors


def read_pt(path: Path) -> dict[str, Any]:
    """The mapping that torch saved in a file; only tensors and plain values are read, and nothing is executed.

    Raises UserError for any other file, and for one with other objects in it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are no checkpoint, which the errors tell better
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
    except Exception as error:  # whatever the first wrong byte leads to
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a file of weights alone, so it was not read ({reason})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of names to tensors, as torch saves them")
    return content
