from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from s2s.audio import silero
from s2s.audio.silero import SileroVAD
from s2s.errors import UserError

needs_package = pytest.mark.skipif(find_spec("silero_vad") is None, reason="pip install silero-vad")


def whole(samples: Tensor, sampling_rate: int = 16000) -> Tensor:
    detector = SileroVAD(sampling_rate)
    return torch.cat([detector.feed(samples), detector.finish()])


def recording(speech: list[Tensor]) -> Tensor:
    silence = torch.zeros(12345)
    return torch.cat([speech[0], silence, speech[1] * 0.1, silence, speech[3]])


@needs_package
@pytest.mark.parametrize("sampling_rate", [16000, 8000])
def test_probabilities_are_those_of_the_packaged_network(speech: list[Tensor], sampling_rate: int) -> None:
    samples = recording(speech)[:: 16000 // sampling_rate]
    theirs = torch.jit.load(str(Path(find_spec("silero_vad").submodule_search_locations[0], "data", "silero_vad.jit")))
    size = sampling_rate * 32 // 1000
    with torch.no_grad():
        expected = [theirs(frame, sampling_rate) for frame in F.pad(samples, (0, -len(samples) % size)).split(size)]
    probabilities = whole(samples, sampling_rate)
    torch.testing.assert_close(probabilities, torch.cat(expected)[:, 0], atol=1e-5, rtol=0)
    assert probabilities.min() < 0.1
    assert probabilities.max() > 0.9


@needs_package
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 70000), max_size=8))
def test_probabilities_do_not_depend_on_how_samples_arrive(speech: list[Tensor], sizes: list[int]) -> None:
    samples = recording(speech)
    pieces = samples.tensor_split([min(place, len(samples)) for place in accumulate(sizes)])
    detector = SileroVAD()
    found = [*map(detector.feed, pieces), detector.finish()]
    assert torch.equal(torch.cat(found), whole(samples))


@needs_package
def test_a_recording_leaves_nothing_for_the_next(speech: list[Tensor]) -> None:
    detector = SileroVAD()
    assert detector.finish().shape == (0,)
    detector.feed(speech[0])
    detector.finish()
    assert torch.equal(torch.cat([detector.feed(speech[1]), detector.finish()]), whole(speech[1]))


@needs_package
def test_frames_are_as_many_as_the_samples_begin() -> None:
    counts = (0, 1, 512, 513, 64 * 512, 64 * 512 + 1)
    assert [len(whole(torch.zeros(n))) for n in counts] == [0, 1, 1, 2, 64, 65]


@needs_package
def test_silence_and_noise_are_no_speech() -> None:
    noise = torch.randn(30 * 16000, generator=torch.Generator().manual_seed(1))
    for level in (0.0, 0.001, 0.1):
        assert whole(noise * level).max() < 0.25


@needs_package
def test_the_package_is_not_imported_and_threads_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)
    threads = torch.get_num_threads()
    silero._network.cache_clear()
    try:
        torch.set_num_threads(threads + 1)
        SileroVAD()
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert "silero_vad" not in sys.modules


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], None]:
    """`pretend(folder)` makes that folder the installed package, `pretend(None)` none."""

    def install(folder: Path | None) -> None:
        spec = ModuleSpec("silero_vad", None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        monkeypatch.setattr(silero, "find_spec", lambda name: spec if folder else None)
        silero._network.cache_clear()

    return install


def test_a_missing_package_is_named(pretend: Callable[[Path | None], None]) -> None:
    pretend(None)
    with pytest.raises(UserError, match=r"silero-vad is not installed; pip install 's2s\[silero\]'"):
        SileroVAD()


def test_other_weights_are_refused(pretend: Callable[[Path | None], None], tmp_path: Path) -> None:
    pretend(tmp_path)
    with pytest.raises(UserError, match=r"silero_vad.jit: expected the weights of silero-vad 5 or 6"):
        SileroVAD()
    (tmp_path / "data").mkdir()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "data" / "silero_vad.jit"))
    with pytest.raises(UserError, match=r"silero_vad.jit: expected the weights of silero-vad 5 or 6"):
        SileroVAD()


def test_other_sampling_rates_are_refused() -> None:
    with pytest.raises(UserError, match=r"sampling_rate is 44100, expected 8000 or 16000 Hz"):
        SileroVAD(44100)
