from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_whisper import VOCAB_SIZE, random_whisper, write_ctranslate2, write_openai, write_tiktoken, write_vocabulary

from s2s.models.bundle import load_bundle
from s2s.models.whisper import Whisper
from s2s.pretrained import vocabulary
from s2s.pretrained.packages import PACKAGES

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S2S_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model() -> Any:
    return random_whisper()


@pytest.fixture
def source(model: Any, tmp_path: Path) -> Path:
    return write_ctranslate2(model, tmp_path / "ct2")


def embedding(bundle: Path) -> Any:
    return load_bundle(bundle, kind=Whisper).model.state_dict()["decoder.embedding.weight"]


@pytest.mark.parametrize("kind", ["ct2", "hf", "pt"])
def test_weights_of_others_become_a_bundle_with_a_card(
    kind: str, model: Any, tmp_path: Path, s2s_cli: Cli, cache: Path
) -> None:
    options: list[object] = []
    if kind == "ct2":
        path = write_ctranslate2(model, tmp_path / "ct2")
    elif kind == "hf":
        path = tmp_path / "hf"
        model.save_pretrained(path)
        write_vocabulary(path)
    else:
        path = write_openai(model, tmp_path / "model.pt")
        options = ["--vocabulary", write_tiktoken(tmp_path / "multilingual.tiktoken")]
    code, out, err = s2s_cli("import", "whisper", path, tmp_path / "mine", *options)
    assert (code, err) == (0, "")
    size = sum(file.stat().st_size for file in (tmp_path / "mine").rglob("*") if file.is_file())
    assert out == f"{tmp_path / 'mine'}: {size / 1e6:.1f} MB\n"
    assert embedding(tmp_path / "mine").equal(model.state_dict()["model.decoder.embed_tokens.weight"])
    card = (tmp_path / "mine" / "README.md").read_text()
    assert all(text in card for text in ("# mine", str(path), "MIT licence", f"{VOCAB_SIZE} pieces"))
    assert not cache.exists()


def test_a_bundle_is_replaced(source: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    out = tmp_path / "mine"
    assert s2s_cli("import", "whisper", source, out)[0] == 0
    before = embedding(out)
    write_ctranslate2(random_whisper(seed=1), source)
    (out / "stale").touch()
    assert s2s_cli("import", "whisper", source, out)[0] == 0
    assert not embedding(out).equal(before)
    assert not (out / "stale").exists()
    code, _, err = s2s_cli("import", "whisper", out, tmp_path / "other")
    assert (code, err) == (1, f"s2s: error: {out}: a bundle already; use it as it is\n")


def test_a_bundle_is_written_to_an_empty_folder(source: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "mine").mkdir()
    assert s2s_cli("import", "whisper", source, tmp_path / "mine")[0] == 0


def test_what_is_no_bundle_is_not_overwritten(source: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for path in (tmp_path / "folder", tmp_path / "file"):
        code, _, err = s2s_cli("import", "whisper", source, path)
        assert code == 1
        assert f"{path}: exists and is not a bundle; give" in err
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "years of work"


def test_a_failure_leaves_no_bundle_and_no_traceback(source: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    content = (source / "model.bin").read_bytes()
    (source / "model.bin").write_bytes(content[:-1])
    code, out, err = s2s_cli("import", "whisper", source, tmp_path / "mine")
    assert (code, out) == (1, "")
    assert (
        err == f"s2s: error: {source / 'model.bin'}: not a whole CTranslate2 model: it ends too early; copy it again\n"
    )
    assert not (tmp_path / "mine").exists()
    assert not list(tmp_path.glob(".*"))


def test_weights_without_a_vocabulary_ask_for_it(
    model: Any, tmp_path: Path, s2s_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "PACKAGES", {})
    monkeypatch.setattr(vocabulary, "URL", "http://127.0.0.1:9/")
    path = write_openai(model, tmp_path / "model.pt")
    code, _, err = s2s_cli("import", "whisper", path, tmp_path / "mine")
    assert code == 1
    assert "give one with --vocabulary" in err
    code, _, err = s2s_cli("import", "whisper", path, tmp_path / "mine", "--vocabulary", tmp_path / "gone")
    assert code == 1
    assert f"{tmp_path / 'gone'}: cannot read" in err


def test_a_source_that_is_nothing_is_named_with_what_is_accepted(tmp_path: Path, s2s_cli: Cli) -> None:
    code, _, err = s2s_cli("import", "whisper", "whisper-bass", tmp_path / "mine")
    assert code == 1
    assert "'whisper-bass': no model; expected a name (whisper-tiny.en, " in err
    assert "Did you mean 'whisper-base'?" in err


def test_a_name_has_its_own_vocabulary(tmp_path: Path, s2s_cli: Cli) -> None:
    code, _, err = s2s_cli("import", "whisper", "tiny.en", tmp_path / "mine", "--vocabulary", tmp_path)
    assert code == 1
    assert "tiny.en has its own; leave the option out" in err


def test_a_name_is_imported_too(tmp_path: Path, s2s_cli: Cli) -> None:
    if PACKAGES["tiny.en"].model.find() is None:
        pytest.skip("the packages of the extra whisper-tiny-en are not installed")
    assert s2s_cli("import", "whisper", "tiny.en", tmp_path / "mine")[0] == 0
    assert embedding(tmp_path / "mine").shape == (51864, 384)


def test_help_says_what_a_source_is(s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("import", "whisper", "--help")
    assert code == 0
    assert all(text in out for text in ("SRC", "DIR", "--vocabulary", "CTranslate2", ".pt", "openai/whisper-base"))
