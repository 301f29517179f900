"""Bytes of PCM to samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def _linear(dtype: str, full_scale: int, silence: int = 0) -> Callable[[bytes], np.ndarray]:
    return lambda data: (np.frombuffer(data, dtype).astype(np.float32) - silence) / np.float32(full_scale)


def _s24le(data: bytes) -> np.ndarray:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)  # the upper three bytes keep the sign
    return (wide.view("<i4")[:, 0] >> 8).astype(np.float32) / np.float32(1 << 23)


def _companded(code: np.ndarray, size: np.ndarray) -> Callable[[bytes], np.ndarray]:
    """By a table of 256: `size` of 16 bits with the sign that the code's first bit says (set: positive)."""
    table = (np.where(code & 0x80, size, -size) / 32768).astype(np.float32)
    return lambda data: table[np.frombuffer(data, np.uint8)]


def _mulaw() -> Callable[[bytes], np.ndarray]:
    """ITU-T G.711 mu-law: sign, three bits of exponent, four of mantissa; exponent and mantissa inverted."""
    code = np.arange(256)
    exponent, mantissa = ~code >> 4 & 7, ~code & 15
    return _companded(code, (((mantissa << 3) + 0x84) << exponent) - 0x84)


def _alaw() -> Callable[[bytes], np.ndarray]:
    """ITU-T G.711 A-law: sign, three bits of exponent, four of mantissa; every other bit inverted."""
    code = np.arange(256)
    exponent, mantissa = (code ^ 0x55) >> 4 & 7, (code ^ 0x55) & 15
    steps = np.where(exponent == 0, 2 * mantissa + 1, (2 * mantissa + 33) << np.maximum(exponent - 1, 0))
    return _companded(code, steps << 3)


ENCODINGS: dict[str, tuple[int, Callable[[bytes], np.ndarray]]] = {  # bytes per sample; bytes -> float32, full scale 1
    "u8": (1, _linear("u1", 1 << 7, silence=128)),
    "s16le": (2, _linear("<i2", 1 << 15)),
    "s24le": (3, _s24le),
    "s32le": (4, _linear("<i4", 1 << 31)),
    "f32le": (4, _linear("<f4", 1)),
    "f64le": (8, _linear("<f8", 1)),
    "mulaw": (1, _mulaw()),
    "alaw": (1, _alaw()),
}
