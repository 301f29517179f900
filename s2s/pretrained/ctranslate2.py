"""CTranslate2's `model.bin`: tensors by name, whole numbers turned back into the weights they stand for."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import torch
from torch import Tensor

from s2s.errors import UserError

MODEL = "model.bin"
VERSION = 6  # of the layout
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)  # by their number
SCALE = "_scale"


@dataclass(frozen=True)
class CTranslate2Model:
    """The name and revision of a model's specification, and its variables by name, aliases included."""

    specification: str
    revision: int
    variables: dict[str, Tensor]


def read_model_bin(path: str | os.PathLike[str]) -> CTranslate2Model:
    """The content of a `model.bin`; weights stored as int8 or int16 are float32, divided by their scales.

    The layout is the one that CTranslate2's `ModelSpec` writes. Never more is read than the file has, whatever its
    numbers claim. Raises UserError for a file that is cut, of another kind or of another version of the layout.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Reader(path, file, path.stat().st_size).model()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error


class _Reader:
    """A cursor in the file that knows how many bytes are left."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.left = path, file, size

    def model(self) -> CTranslate2Model:
        version = self._number("I")
        if version != VERSION:
            self._fail(
                f"it begins with {version} where the version of the format should be, {VERSION}; if it is one of "
                "another version, convert the model again with a current CTranslate2"
            )
        specification, revision = self._string(), self._number("I")
        stored: dict[str, Tensor] = {}
        for _ in range(self._number("I")):
            name = self._string()
            stored[name] = self._variable(name)
        variables = self._unscaled(stored)
        for _ in range(self._number("I")):
            alias, name = self._string(), self._string()
            if name in variables:
                variables[alias] = variables[name]
            elif name not in stored:  # a scale is not needed any more
                self._fail(f"'{alias}' stands for '{name}', which is not there")
        if self.left:
            self._fail(f"{self.left} bytes follow its end")
        return CTranslate2Model(specification, revision, variables)

    def _variable(self, name: str) -> Tensor:
        shape = [self._number("I") for _ in range(self._number("B"))]
        kind, size = self._number("B"), self._number("I")
        if kind >= len(DTYPES):
            self._fail(f"'{name}' is of type {kind}; expected one below {len(DTYPES)}")
        dtype = DTYPES[kind]
        if size != math.prod(shape) * dtype.itemsize or not size:
            self._fail(f"'{name}' has {size} bytes, which are no {shape} of {dtype}")
        return torch.frombuffer(self._bytes(size), dtype=dtype).view(shape)

    def _unscaled(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The variables without the scales: a weight is its whole numbers over the scale, of each row or of all."""
        variables = {}
        for name, value in stored.items():
            scale = stored.get(name + SCALE)
            if scale is not None:
                if scale.numel() not in (1, *value.shape[:1]):
                    self._fail(f"'{name}' of shape {[*value.shape]} has {scale.numel()} scales")
                value = value.float() / scale.float().view(-1, *[1] * (value.dim() - 1))
            if not (name.endswith(SCALE) and name.removesuffix(SCALE) in stored):
                variables[name] = value
        return variables

    def _number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self._bytes(struct.calcsize(f"<{kind}")))[0])

    def _string(self) -> str:
        content = self._bytes(self._number("H"))
        try:
            return content.rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            self._fail("a name in it is not UTF-8")

    def _bytes(self, size: int) -> bytearray:
        if size > self.left:
            self._fail("it ends too early; copy it again")
        self.left -= size
        return bytearray(self.file.read(size))

    def _fail(self, what: str) -> NoReturn:
        raise UserError(f"{self.path}: not a whole CTranslate2 model: {what}")
