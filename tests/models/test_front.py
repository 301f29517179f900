"""What an encoder may begin with."""

from __future__ import annotations

from typing import Any

import pytest

from s2s.errors import UserError
from s2s.models.build import build

NAMES = ("transformer_encoder.TransformerEncoder", "conformer.ConformerEncoder", "branchformer.BranchformerEncoder")
FRONT = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}


@pytest.mark.parametrize("name", [*NAMES, "lstm_encoder.LSTMEncoder"])
def test_a_front_of_another_width_and_what_is_no_front_are_refused(name: str) -> None:
    config: dict[str, Any] = {"_target_": f"s2s.models.{name}", "model_dim": 16, "num_layers": 1}
    assert build({**config, "front": FRONT}).subsampling_factor == 4
    with pytest.raises(UserError, match=r"front\.model_dim=12: expected that of the encoder, model_dim=16"):
        build({**config, "front": {**FRONT, "model_dim": 12}})
    with pytest.raises(UserError, match=r"front: CTC is none; expected ConvolutionSubsampling"):
        build({**config, "front": {"_target_": "s2s.models.ctc.CTC", "memory_dim": 16, "vocab_size": 5}})
