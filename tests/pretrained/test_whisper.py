from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_whisper import (
    SOT,
    VOCAB_SIZE,
    random_whisper,
    write_ctranslate2,
    write_openai,
    write_tiktoken,
    write_vocabulary,
)
from torch import Tensor

from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.whisper import Whisper
from s2s.pretrained.alignment_heads import HEADS, alignment_heads
from s2s.pretrained.packages import PACKAGES
from s2s.pretrained.whisper import non_speech_ids, read_whisper, write_whisper
from s2s.tokenizers.whisper import WhisperTokenizer


@pytest.fixture(scope="module")
def theirs() -> Any:
    """transformers' model, of 80 mel bins."""
    return random_whisper()


def write_huggingface(model: Any, folder: Path, shards: str = "1GB", **settings: Any) -> Path:
    model.save_pretrained(folder, max_shard_size=shards)
    write_vocabulary(folder)
    if settings:
        change(folder / "generation_config.json", **settings)
    return folder


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.fixture
def folder(theirs: Any, tmp_path: Path) -> Path:
    """`theirs` as transformers saves it."""
    return write_huggingface(theirs, tmp_path / "hf")


def inputs(num_mel_bins: int, frames: int = 60, tokens: int = 9) -> tuple[Tensor, Tensor]:
    """Features (2,F,frames) and tokens (2,U), float64."""
    generator = torch.Generator().manual_seed(frames + tokens)
    ids = torch.randint(VOCAB_SIZE, (2, tokens), generator=generator)
    ids[:, 0] = SOT
    return torch.randn(2, num_mel_bins, frames, generator=generator, dtype=torch.float64), ids


@torch.no_grad()
def differences(ours: Whisper, theirs: Any, num_mel_bins: int = 80, tokens: int = 9) -> tuple[float, float]:
    """The largest of encoder states and of log-probabilities, in float64."""
    features, ids = inputs(num_mel_bins, tokens=tokens)
    ours = ours.double()
    dtype = theirs.dtype
    answer = theirs.double()(input_features=features, decoder_input_ids=ids)
    theirs.to(dtype)
    memory = ours.encode(features.transpose(1, 2), torch.tensor([60, 60]))
    log_probs = ours.decoder(memory, ids)
    states = (memory.states - answer.encoder_last_hidden_state).abs().max()
    return states.item(), (log_probs - answer.logits.log_softmax(-1)).abs().max().item()


@settings(max_examples=6)
@given(bins=st.sampled_from([80, 128]), shards=st.sampled_from(["1GB", "20KB"]), tokens=st.integers(1, 12))
def test_a_folder_of_transformers_gives_its_logits(
    bins: int, shards: str, tokens: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = random_whisper(bins, seed=tokens)
    folder = write_huggingface(model, tmp_path_factory.mktemp("hf"), shards)
    assert (folder / "model.safetensors").exists() == (shards == "1GB")
    found = read_whisper(folder)
    assert found.features.config.num_mel_bins == bins
    assert max(differences(found.model, model, bins, tokens)) < 1e-12


def test_the_pt_file_of_openai_gives_the_same_logits(theirs: Any, tmp_path: Path) -> None:
    path = write_openai(theirs, tmp_path / "tiny.pt")
    found = read_whisper(path, write_tiktoken(tmp_path / "multilingual.tiktoken"))
    assert max(differences(found.model, theirs)) < 1e-12
    assert found.tokenizer.vocab_size == VOCAB_SIZE


def test_a_folder_of_ctranslate2_gives_the_same_logits(theirs: Any, tmp_path: Path) -> None:
    found = read_whisper(write_ctranslate2(theirs, tmp_path / "ct2"))
    assert max(differences(found.model, theirs)) < 1e-12


def test_int8_weights_are_within_half_a_step(theirs: Any, tmp_path: Path, folder: Path) -> None:
    exact = read_whisper(folder).model.state_dict()
    found = read_whisper(write_ctranslate2(theirs, tmp_path / "ct2", torch.int8)).model.state_dict()
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    for name, weight in exact.items():
        step = weight.flatten(1).abs().amax(dim=1) / 127 if weight.dim() > 1 else torch.zeros(())
        error = (found[name] - weight).abs()
        assert (error <= 0.5001 * step.view(-1, *[1] * (weight.dim() - 1))).all()
    assert any(not torch.equal(found[name], weight) for name, weight in exact.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_the_size_on_disk_and_is_float32_in_use(
    theirs: Any, tmp_path: Path, dtype: torch.dtype
) -> None:
    found = read_whisper(write_ctranslate2(theirs, tmp_path / "ct2", dtype))
    found.save(tmp_path / "bundle")
    stored = load_file(tmp_path / "bundle" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {dtype}
    loaded = load_bundle(tmp_path / "bundle", kind=Whisper).model.state_dict()
    assert {weight.dtype for weight in loaded.values()} == {torch.float32}
    assert all(torch.equal(loaded[name], weight.float()) for name, weight in stored.items())


def test_the_bundle_read_back_has_the_same_logits_and_says_where_it_is_from(
    theirs: Any, folder: Path, tmp_path: Path
) -> None:
    found = read_whisper(folder)
    assert isinstance(found, Bundle)
    write_whisper(found, tmp_path / "bundle", "mine", "somewhere")
    loaded = load_bundle(tmp_path / "bundle", kind=Whisper)
    assert max(differences(loaded.model, theirs)) < 1e-12
    assert loaded.tokenizer.encode(" añb") == found.tokenizer.encode(" añb")
    assert (loaded.model.bos_id, loaded.model.eos_id) == (SOT, SOT - 1)
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert all(text in card for text in ("# mine", "somewhere", "MIT", "--model mine"))


def test_what_the_source_says_of_heads_and_suppressed_tokens_is_kept(folder: Path) -> None:
    change(
        folder / "generation_config.json",
        alignment_heads=[[2, 1], [0, 0]],
        suppress_tokens=[7],
        begin_suppress_tokens=[],
    )
    model = read_whisper(folder).model
    assert model.alignment_heads == [(2, 1), (0, 0)]
    assert model.suppress_begin_ids == []
    prompt = [257, 357, 358, 359, 360, 361]  # start, translate, transcribe, startoflm, startofprev, nospeech
    assert model.suppress_ids == [7, *prompt]


def test_where_the_source_says_nothing_it_comes_from_the_sizes_and_the_vocabulary(theirs: Any, tmp_path: Path) -> None:
    found = read_whisper(write_openai(theirs, tmp_path / "a.pt"), write_tiktoken(tmp_path / "multilingual.tiktoken"))
    assert found.model.alignment_heads == [(layer, head) for layer in (1, 2) for head in (0, 1)]
    assert found.model.suppress_begin_ids == [ord(" "), 256]
    assert set(found.model.suppress_ids) >= {ord("("), ord("["), ord("#"), ord("~")}
    assert not set(found.model.suppress_ids) & {ord("."), ord("a"), ord("?"), ord("%")}


def test_the_size_that_is_named_decides_between_models_that_look_alike() -> None:
    assert alignment_heads("large-v1", 32, 20)[0] == [9, 19]
    assert alignment_heads("large-v2", 32, 20)[0] == [10, 12]
    assert alignment_heads(None, 32, 20) == [[layer, head] for layer in range(16, 32) for head in range(20)]


@pytest.mark.parametrize("size", HEADS)
def test_known_heads_are_of_the_model(size: str) -> None:
    layers, heads = {"tiny": (4, 6), "base": (6, 8), "small": (12, 12), "medium": (24, 16), "large": (32, 20)}[
        size.split(".")[0].split("-")[0]
    ]
    layers = 4 if size == "large-v3-turbo" else layers
    assert all(layer < layers and head < heads for layer, head in alignment_heads(size, layers, heads))


@pytest.mark.parametrize("size", PACKAGES)
def test_heads_and_lists_from_the_tables_are_those_that_real_weights_come_with(size: str) -> None:
    path = (PACKAGES[size].config.find() or [None])[0]
    if path is None:
        pytest.skip(f"the packages of the extra {PACKAGES[size].extra} are not installed")
    config = json.loads(path.read_text())
    tokenizer = WhisperTokenizer.from_huggingface(path.parent)
    prompt = range(tokenizer.translate_id, tokenizer.no_speech_id + 1)
    assert sorted([*non_speech_ids(tokenizer), tokenizer.sot_id, *prompt]) == config["suppress_ids"]
    assert [*tokenizer.encode(" "), tokenizer.eos_id] == config["suppress_ids_begin"]
    assert alignment_heads(size, 6, 8) == config["alignment_heads"]


class Executes:
    """What a pickle can do when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_with_anything_but_tensors_is_refused_and_not_executed(theirs: Any, tmp_path: Path) -> None:
    path = write_openai(theirs, tmp_path / "bad.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "more": Executes(tmp_path / "executed")}, path)
    with pytest.raises(UserError, match=r"bad\.pt: not a file of weights alone, so it was not read"):
        read_whisper(path)
    path.write_bytes(pickle.dumps(Executes(tmp_path / "executed")))
    with pytest.raises(UserError, match=r"not a file of weights alone"):
        read_whisper(path)
    assert not (tmp_path / "executed").exists()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a/data.pkl", b"no pickle")
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"some text", zipped(), pickle.dumps({"dims": 1})])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pt: not a"):
        read_whisper(tmp_path / "a.pt")


def break_weights(folder: Path, how: str) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-10])
        return
    if how == "gone":
        path.unlink()
        return
    if how == "missing":
        del weights["model.decoder.layers.1.fc1.weight"]
    elif how == "no embedding":
        del weights["model.decoder.embed_tokens.weight"]
    elif how == "shape":
        weights["model.encoder.layers.0.fc2.bias"] = torch.zeros(3)
    elif how == "more":
        weights["model.encoder.extra.weight"] = torch.zeros(3)
    elif how == "whole numbers":
        weights["model.encoder.layer_norm.bias"] = torch.zeros(16, dtype=torch.int64)
    elif how == "output":
        weights["proj_out.weight"] = torch.zeros(VOCAB_SIZE, 16)
    save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", r"model\.safetensors: not a whole safetensors file .* copy it again"),
        ("gone", r"model\.safetensors: no such file"),
        ("missing", r"'decoder\.layers\.1\.feed_forward\.expand\.weight' \(of 1 tensors\) does not fit"),
        ("no embedding", r"'decoder\.embedding\.weight' is missing"),
        ("shape", r"'encoder\.layers\.0\.feed_forward\.contract\.bias' .* does not fit"),
        ("more", r"'encoder\.extra\.weight' .* does not fit"),
        ("whole numbers", r"'encoder\.norm\.bias' .* does not fit"),
        ("output", r"the output matrix is not the embedding"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder: Path, how: str, message: str) -> None:
    break_weights(folder, how)
    with pytest.raises(UserError, match=message):
        read_whisper(folder)


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("config.json", {"model_type": "bart"}, r"config\.json: model_type: 'bart', expected 'whisper'"),
        ("config.json", {"activation_function": "relu"}, r"activation_function: 'relu', expected 'gelu'"),
        ("config.json", {"encoder_attention_heads": "4"}, r"encoder_attention_heads: '4', expected a number"),
        ("config.json", {"encoder_attention_heads": 5}, r"num_heads=5"),
        ("generation_config.json", {"alignment_heads": [[3, 0]]}, r"alignment_heads: \[\[3, 0\]\], expected"),
        ("generation_config.json", {"alignment_heads": [1]}, r"alignment_heads: \[1\], expected"),
        ("generation_config.json", {"suppress_tokens": [VOCAB_SIZE]}, r"tokens to suppress are"),
        ("generation_config.json", {"begin_suppress_tokens": "x"}, r"tokens to suppress at the begin are 'x'"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(
    folder: Path, file: str, settings: dict[str, Any], message: str
) -> None:
    change(folder / file, **settings)
    with pytest.raises(UserError, match=message):
        read_whisper(folder)


def test_a_broken_config_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not readable as JSON"):
        read_whisper(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"hf: no model; expected a folder with config\.json"):
        read_whisper(folder)


def test_an_index_names_only_files_beside_it(theirs: Any, tmp_path: Path) -> None:
    folder = write_huggingface(theirs, tmp_path / "hf", shards="20KB")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first = next(iter(index["weight_map"]))
    for file, message in (
        ("../other.safetensors", r"weight_map: expected"),
        ("model-9.safetensors", r"model-9.*no such"),
    ):
        change(path, weight_map={**index["weight_map"], first: file})
        with pytest.raises(UserError, match=message):
            read_whisper(folder)


def test_a_model_of_ctranslate2_that_is_not_whisper_is_refused(tmp_path: Path, theirs: Any) -> None:
    folder = write_ctranslate2(theirs, tmp_path / "ct2")
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content.replace(b"WhisperSpec", b"ParrotsSpec"))
    with pytest.raises(UserError, match=r"model\.bin: ParrotsSpec of revision 3, expected WhisperSpec"):
        read_whisper(folder)
