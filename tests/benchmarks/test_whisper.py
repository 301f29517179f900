from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import peers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_whisper import SPECIAL, VOCAB_SIZE, random_whisper, write_ctranslate2, write_openai

from s2s.errors import UserError
from s2s.pretrained.packages import PACKAGES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEERS = BENCHMARKS / ".peers-whisper"


def module(name: str) -> ModuleType:
    """A file of the benchmarks, which are no package."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


spoken = module("spoken").spoken
audio, layouts = module("whisper_audio"), module("whisper_layouts")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "whisper.py"), "--threads", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Press 1, or 20, now!", "press one or twenty now"),
        ("Forty-two lines", "42 lines"),
        ("6 × 10 = 60: a 12% chance", "six times ten equals sixty a twelve percent chance"),
        ("600,000 or 05", "six zero zero zero zero zero or zero five"),
        ("a 28.8 kilobit modem", "a twenty eight point eight kilobit modem"),
        ("Don\u2019t press #", "don't press pound"),
        ("3D audio", "three d audio"),
    ],
)
def test_what_is_said_alike_is_written_alike(written: str, said: str) -> None:
    assert spoken(written) == spoken(said)
    assert not any(character.isdigit() for character in spoken(written))


@given(st.text("aB1290 .,'-#%×½²é_", max_size=20))
def test_a_text_as_it_was_said_stays_as_it_is(text: str) -> None:
    assert spoken(spoken(text)) == spoken(text)


def test_numbers_below_a_hundred_differ() -> None:
    assert len({spoken(str(number)) for number in range(100)}) == 100


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny Whisper of transformers, and the folder with its layouts, written from a CTranslate2 directory."""
    model, folder = random_whisper(), tmp_path_factory.mktemp("layouts")
    source = write_ctranslate2(model, folder / layouts.CTRANSLATE2, torch.float16)
    vocabulary = json.loads((source / "vocab.json").read_text())
    added = [{"content": name, "id": vocabulary.pop(name)} for name in SPECIAL]
    split = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    tokenizer = {"model": {"vocab": vocabulary, "merges": []}, "added_tokens": added, "pre_tokenizer": split}
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    layouts.write_layouts(source, folder)
    return model.half(), folder


def test_transformers_reads_its_layout_whole_and_finds_its_own_weights(written: tuple[Any, Path]) -> None:
    model, folder = written
    kind = peers.transformers().WhisperForConditionalGeneration
    found, info = kind.from_pretrained(folder / layouts.TRANSFORMERS, output_loading_info=True, dtype=torch.float16)
    assert not any(info.values())
    expected = model.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in found.state_dict().items())
    for key in ("encoder_attention_heads", "decoder_attention_heads", "decoder_start_token_id", "eos_token_id"):
        assert getattr(found.config, key) == getattr(model.config, key)
    vocabulary = json.loads((folder / layouts.CTRANSLATE2 / "vocab.json").read_text())
    assert found.generation_config.begin_suppress_tokens == [vocabulary["\u0120"], model.config.eos_token_id]  # a space


def test_openai_layout_is_what_its_names_and_sizes_say(written: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = written
    expected = torch.load(write_openai(model, tmp_path / "theirs.pt"), weights_only=True)
    found = torch.load(folder / layouts.OPENAI, weights_only=True)
    assert found["model_state_dict"].keys() == expected["model_state_dict"].keys()
    assert all(torch.equal(w, expected["model_state_dict"][n]) for n, w in found["model_state_dict"].items())
    sizes = {"n_mels": 80, "n_vocab": VOCAB_SIZE, "n_audio_ctx": 30, "n_audio_state": 16, "n_audio_layer": 2}
    sizes |= {"n_text_ctx": 12, "n_text_state": 16, "n_text_layer": 3, "n_audio_head": 4, "n_text_head": 2}
    assert found["dims"] == sizes


def test_the_long_recording_is_the_same_each_time_and_its_text_is_that_of_its_clips(data_root: Path) -> None:
    samples, text = audio.long_recording(data_root, 15.0, 0)
    again, same = audio.long_recording(data_root, 15.0, 0)
    other, _ = audio.long_recording(data_root, 15.0, 1)
    assert torch.equal(samples, again)
    assert text == same
    assert len(samples) >= 15 * audio.SAMPLING_RATE
    assert len(other) != len(samples)  # other pauses
    assert spoken(text).startswith("and so my fellow americans")


def test_no_prompt_is_without_words_or_longer_than_a_window(data_root: Path) -> None:
    found = audio.prompts(data_root)
    assert len(found) > 500
    assert all(spoken(clip.text) and clip.seconds <= 30 and not set("<[(") & set(clip.text) for clip in found)


def test_too_little_speech_for_the_long_recording_is_said(tmp_path: Path) -> None:
    for table in (audio.PROMPTS, audio.SAMPLES):
        (tmp_path / table).parent.mkdir()
        (tmp_path / table).write_text("lang\tid\tpath\tduration\ttext\n")
    with pytest.raises(UserError, match=r"60 s of English too little"):
        audio.long_recording(tmp_path, 60.0, 0)


@pytest.fixture
def weights() -> None:
    """The package with the weights of tiny.en."""
    package = PACKAGES["tiny.en"]
    if package.model.find() is None:
        pytest.skip(f"install s2s[{package.extra}] to run the benchmark with real weights")


@pytest.mark.usefixtures("weights")
def test_every_system_answers_or_is_left_out_with_the_reason(data_root: Path, tmp_path: Path) -> None:
    out, keep = tmp_path / "record.json", tmp_path / "work"
    others = ["faster-whisper-int8", "openai-whisper", "transformers"] if PEERS.exists() else []
    names = ["s2s-float32", *others]
    systems = ",".join(names if others else [*names, "openai-whisper"])
    without = [] if others else ["--peers", tmp_path / "none"]
    asked = ["--systems", systems, "--works", "short", "--limit", 2, "--out", out, "--keep", keep, *without]
    done = run("--data-root", data_root, *asked)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    runs = record["runs"]["short"]
    for name in names:
        found = runs[f"{name}, sequential"]
        assert found["word_error_rate"] < 0.3
        assert found["real_time_factor"] == pytest.approx(
            found["seconds"] / record["work"]["short"]["audio_seconds"], rel=1e-2
        )
        assert found["first_result_seconds"] <= found["seconds"]
        answer = json.loads((keep / f"short {name} sequential 1.json").read_text())
        assert len(answer["seconds"]) == len(answer["texts"]) == 2
    if not others:
        assert "setup.sh" in runs["openai-whisper, sequential"]["left_out"]
    else:
        ratio = runs["openai-whisper, sequential"]["seconds"] / runs["s2s-float32, batched"]["seconds"]
        found = record["seconds_over_ours"]["short"]["openai-whisper, sequential"]["s2s-float32, batched"]
        assert found == pytest.approx(ratio, rel=1e-2)
    assert {"machine", "threads", "command", "date", "commit"} <= record.keys()
    assert "s2s-float32, batched" in done.stdout


def test_what_is_missing_is_named_without_a_traceback(tmp_path: Path) -> None:
    done = run("--data-root", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no real speech")


@pytest.mark.parametrize("size", ["large", "tiny"])
def test_a_model_that_no_package_carries_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected tiny.en or base"):
        layouts.packaged_weights(size, tmp_path)
