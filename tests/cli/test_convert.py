"""`s2s convert`: what it writes, what it says, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Cli
from toy import toy_bundle

from s2s.models.attentions import attentions
from s2s.models.bundle import load_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    toy_bundle().save(tmp_path / "model")
    return tmp_path / "model"


def test_multi_query_attention_is_made_and_what_changed_is_said(s2s_cli: Cli, bundle: Path, tmp_path: Path) -> None:
    code, out, err = s2s_cli("convert", bundle, "--out", tmp_path / "mqa", "--kv-heads", 1)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{tmp_path / 'mqa'}: kv_heads=1 in self, cross"
    before, after = (sum(p.numel() for p in load_bundle(f).model.parameters()) for f in (bundle, tmp_path / "mqa"))
    assert re.search(rf"^parameters +{before:,} -> {after:,}$", out, re.MULTILINE)
    assert re.search(r"^bytes cached for a token +128 -> 64$", out, re.MULTILINE)  # one layer of two heads of eight
    assert re.search(r"^bytes cached for a frame +128 -> 64$", out, re.MULTILINE)
    code, out, err = s2s_cli("convert", tmp_path / "mqa", "--out", tmp_path / "again", "--kv-heads", 1)
    assert (code, out) == (1, "")
    assert re.search(r"config.yaml: model: decoder.layers.0.self_attention is no multi-head attention any more", err)
    assert not (tmp_path / "again").exists()


def test_parts_are_chosen(s2s_cli: Cli, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "slim"
    code, said, _ = s2s_cli("convert", bundle, "--out", out, "--keys-only", "--part", "encoder", "--part", "cross")
    assert code == 0
    assert said.startswith(f"{out}: keys only in encoder, cross\n")
    assert re.search(r"^bytes cached for a token +128 -> 128\nbytes cached for a frame +128 -> 64$", said, re.MULTILINE)
    assert re.search(r"condition number .* up to \d.*: values keep about \d digits in float32, \d in float16$", said)
    kinds = {name: each.config.projection for name, each in attentions(load_bundle(out).model).items()}
    assert kinds == {
        "encoder.blocks.0.attention": "keys_only",
        "decoder.layers.0.self_attention": "multi_head",
        "decoder.layers.0.memory_attention": "keys_only",
    }


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, r"give either --kv-heads or --keys-only"),
        (("--kv-heads", 1, "--keys-only"), 2, r"give either"),
        (("--kv-heads", 3), 1, r"kv_heads=3: num_heads=2 is no multiple"),
        (("--keys-only", "--part", "decoder"), 1, r"part 'decoder': expected encoder, self, cross"),
    ],
)
def test_mistakes_are_one_line(
    s2s_cli: Cli, bundle: Path, tmp_path: Path, options: tuple[object, ...], code: int, message: str
) -> None:
    found, out, err = s2s_cli("convert", bundle, "--out", tmp_path / "out", *options)
    assert (found, out) == (code, "")
    assert re.search(message, err)
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_bundle_is_named(s2s_cli: Cli, tmp_path: Path) -> None:
    code, _, err = s2s_cli("convert", tmp_path, "--out", tmp_path / "out", "--keys-only")
    assert code == 1
    assert "not a bundle (no config.yaml in it)" in err
