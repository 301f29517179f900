from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.fbank_stream import FbankStream
from s2s.errors import UserError


def whole(fbank: Fbank, samples: Tensor) -> Tensor:
    return fbank(samples[None], torch.tensor([len(samples)]))[0][0]


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3000), max_size=8))
def test_chunks_give_the_same_frames_as_the_whole(speech: list[Tensor], sizes: list[int]) -> None:
    fbank = Fbank()
    stream = FbankStream(fbank)
    samples = speech[1][: sum(sizes)]
    pieces = [stream.feed(chunk) for chunk in samples.split(sizes)] if sizes else []
    torch.testing.assert_close(torch.cat([*pieces, stream.finish()]), whole(fbank, samples), atol=1e-4, rtol=0)


@pytest.mark.parametrize("frame_shift", [0.010, 0.025])
def test_single_samples_give_the_same_frames_as_the_whole(digits: list[Tensor], frame_shift: float) -> None:
    fbank = Fbank(FbankConfig(8000, 40, frame_shift=frame_shift))
    stream = FbankStream(fbank)
    samples = digits[0][:1000]
    pieces = [stream.feed(sample) for sample in samples.split(1)]
    assert [len(piece) for piece in pieces[:200]] == [0] * 199 + [1]  # as soon as its last sample is there
    torch.testing.assert_close(torch.cat(pieces), whole(fbank, samples), atol=1e-4, rtol=0)


def test_memory_is_less_than_a_window_however_long_the_stream(speech: list[Tensor]) -> None:
    stream = FbankStream(Fbank())
    for chunk in speech[1].split(7777):
        stream.feed(chunk)
        assert stream._rest is not None
        assert stream._rest.untyped_storage().nbytes() < 400 * 4


def test_a_stream_starts_anew_after_its_end(digits: list[Tensor]) -> None:
    fbank = Fbank(FbankConfig(8000, 40))
    stream = FbankStream(fbank)
    stream.feed(digits[0])
    assert stream.finish().shape == (0, 40)
    torch.testing.assert_close(stream.feed(digits[1]), whole(fbank, digits[1]), atol=1e-4, rtol=0)


def test_mirrored_edges_are_refused() -> None:
    with pytest.raises(UserError, match="a stream needs snip_edges=true"):
        FbankStream(Fbank(FbankConfig(snip_edges=False)))
