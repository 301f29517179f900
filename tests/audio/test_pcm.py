from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from s2s.audio.pcm import ENCODINGS

SUBTYPES = {
    "u8": "PCM_U8",
    "s16le": "PCM_16",
    "s24le": "PCM_24",
    "s32le": "PCM_32",
    "f32le": "FLOAT",
    "f64le": "DOUBLE",
    "mulaw": "ULAW",
    "alaw": "ALAW",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_value_is_that_of_libsndfile(encoding: str) -> None:
    width, decode = ENCODINGS[encoding]
    data = np.random.default_rng(0).integers(0, 256, 4000 * width, dtype=np.uint8).tobytes()
    if encoding in ("u8", "mulaw", "alaw"):
        data = bytes(range(256))
    elif encoding[0] == "f":  # any bytes would be NaN too
        data = np.random.default_rng(0).normal(size=4000).astype(f"<f{width}").tobytes()
    expected, _ = soundfile.read(
        io.BytesIO(data), dtype="float32", samplerate=8000, channels=1, format="RAW", subtype=SUBTYPES[encoding]
    )
    found = decode(data)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
