"""Silero's voice activity detector: the weights of the package silero-vad, in our own tensors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2s.audio.voice_activity import Regrouped
from s2s.errors import UserError

SAMPLING_RATES = {16000: "_model.", 8000: "_model_8k."}  # hertz, and where the package keeps their weights

_GROUP = 64  # frames computed at once: ten times as fast as one by one, and the same however samples arrive
_STRIDES = (1, 2, 2, 1)


class SileroVAD:
    """Probabilities of speech in 32 ms frames by the network of silero-vad: a learnt spectrum, convolutions, an LSTM.

    They are the packaged network's own within float32 rounding, for its versions 5 and 6. The package is read, never
    imported, for that would set the threads of the whole process to one.
    Raises UserError where it is not installed, for other weights than these, and for a rate that is not 8000 or 16000.
    """

    def __init__(self, sampling_rate: int = 16000) -> None:
        if sampling_rate not in SAMPLING_RATES:
            raise UserError(
                f"silero: sampling_rate is {sampling_rate}, expected 8000 or 16000 Hz; resample, or use energy"
            )
        self.sampling_rate, self.frame_samples = sampling_rate, sampling_rate * 32 // 1000
        self._network = _network(sampling_rate)
        self._start()

    def _start(self) -> None:
        self._samples = Regrouped(_GROUP * self.frame_samples)
        self._before = torch.zeros(self.frame_samples // 8)
        self._state: tuple[Tensor, Tensor] | None = None

    def feed(self, samples: Tensor) -> Tensor:
        """Probabilities (T,), T >= 0 and a multiple of 64, that the samples (n,), in [-1, 1], complete."""
        return torch.cat([torch.zeros(0), *map(self._probabilities, self._samples.feed(samples))])

    def finish(self) -> Tensor:
        """Probabilities (T,) in the other frames; the next `feed` starts a new recording."""
        rest = self._samples.finish()
        found = self._probabilities(F.pad(rest, (0, -len(rest) % self.frame_samples))) if len(rest) else rest
        self._start()
        return found

    @torch.no_grad()
    def _probabilities(self, samples: Tensor) -> Tensor:
        samples = torch.cat([self._before, samples])
        context = len(self._before)  # each frame is heard with what precedes it
        frames = samples.unfold(0, context + self.frame_samples, self.frame_samples)
        self._before = samples[-context:]
        hidden, self._state = self._network.recurrent(self._network.encode(frames), self._state)
        return self._network.out(hidden.relu())[:, 0].sigmoid()


@dataclass(frozen=True)
class _Network:
    basis: Tensor  # (2 * frequencies, 1, window): cosines, then sines
    convolutions: list[tuple[Tensor, Tensor]]
    recurrent: nn.LSTM
    out: nn.Linear

    def encode(self, frames: Tensor) -> Tensor:
        """What the LSTM hears (T,D) of frames (T,n); they do not see each other."""
        window = self.basis.shape[2]
        frames = F.pad(frames[:, None], (0, window // 4), mode="reflect")
        real, imaginary = F.conv1d(frames, self.basis, stride=window // 2).chunk(2, dim=1)
        hidden = (real.square() + imaginary.square()).sqrt()
        for (weight, bias), stride in zip(self.convolutions, _STRIDES, strict=True):
            hidden = F.conv1d(hidden, weight, bias, stride=stride, padding=1).relu()
        return hidden[:, :, 0]


@lru_cache
def _network(sampling_rate: int) -> _Network:
    spec = find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("silero: the package silero-vad is not installed; pip install 's2s[silero]', or use energy")
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would rather have another format; this is the one with both rates
            weights = torch.jit.load(path, map_location="cpu").state_dict()
        return _read(weights, SAMPLING_RATES[sampling_rate])
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: expected the weights of silero-vad 5 or 6, found others ({str(error).strip().splitlines()[0]}); "
            "pip install 'silero-vad>=6,<7', or use energy"
        ) from error


def _read(weights: dict[str, Tensor], prefix: str) -> _Network:
    """The network of the weights whose names start with `prefix`."""
    weights = {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
    convolutions = [f"encoder.{i}.reparam_conv" for i in range(len(_STRIDES))]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    width = weights["decoder.rnn.weight_hh"].shape[1]
    recurrent = nn.LSTM(width, width)
    recurrent.load_state_dict({f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names})
    out = nn.Linear(width, 1)
    out.load_state_dict(
        {"weight": weights["decoder.decoder.2.weight"][:, :, 0], "bias": weights["decoder.decoder.2.bias"]}
    )
    return _Network(
        weights["stft.forward_basis_buffer"],
        [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in convolutions],
        recurrent,
        out,
    )
