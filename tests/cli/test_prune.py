from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Cli
from safetensors.torch import load_file

import s2s
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import DataConfig, evaluation_batches
from s2s.models.attentions import attentions
from s2s.models.bundle import load_bundle
from s2s.training.config import load_train_config
from s2s.training.prepare import make_bundle
from s2s.training.validation import validate


@pytest.fixture(scope="module")
def model(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 4 heads in the encoder and 16 in the decoder, untrained."""
    folder = tmp_path_factory.mktemp("prune")
    heads = ["model.encoder.num_heads=4", "model.decoder.num_heads=4", "model.decoder.num_layers=2"]
    make_bundle(load_train_config("train", [f"exp_dir={folder}", *tiny, *heads])).save(folder / "model")
    return folder / "model"


def arguments(model: Path, digits: Path, out: Path, *more: object) -> list[object]:
    return ["prune", model, "--data", digits / "dev", "--num-workers", 0, "--out", out, *more]


def validated(model: Path, digits: Path) -> tuple[float, float]:
    bundle = load_bundle(model)
    dataset = SpeechDataset(bundle.tokenizer, bundle.features)
    return validate(
        bundle.model, evaluation_batches(load_corpus([digits / "dev"]).cuts, dataset, DataConfig(num_workers=0))
    )


def test_prune_writes_a_bundle_with_fewer_heads_and_reports_the_loss_of_accuracy(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "pruned", tmp_path / "report.json"
    code, printed, err = s2s_cli(*arguments(model, digits, out, "--keep", 0.4, "--report", file))
    assert code == 0, err
    assert f"{out}: 8 of 20 heads" in printed
    report = json.loads(file.read_text())
    for when, folder, heads in (("before", model, 20), ("after", out, 8)):
        loss, error = validated(folder, digits)
        parameters = sum(p.numel() for p in load_bundle(folder).model.parameters())
        found = report[when]
        assert (found["heads"], found["parameters"]) == (heads, parameters)
        assert found["loss"] == pytest.approx(loss, rel=1e-5)
        assert found["ctc_greedy_error"] == error
        for shown in (f"{parameters:,}", f"{found['loss']:.4f}", f"{100 * error:.2f}%"):
            assert shown in printed
    layers = attentions(load_bundle(out).model)
    assert {name: len(each["kept"]) for name, each in report["attentions"].items()} == {
        name: layer.num_heads for name, layer in layers.items()
    }
    for name, each in report["attentions"].items():
        assert f"{name}: {len(each['kept'])} of 4 heads kept" in printed
        worst = max((v for h, v in enumerate(each["importance"]) if h not in each["kept"]), default=0.0)
        assert all(each["importance"][h] >= worst for h in each["kept"])
    wav = (digits / "dev" / "wav.scp").read_text().split()[1]
    assert len(list(s2s.load(out).transcribe([wav]))) == 1


def test_importance_does_not_depend_on_batches(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    found = []
    for seconds in (1, 120):
        file = tmp_path / f"{seconds}.json"
        more = ("--keep", 0.5, "--report", file, "--max-batch-seconds", seconds)
        assert s2s_cli(*arguments(model, digits, tmp_path / f"{seconds}", *more))[0] == 0
        found.append(json.loads(file.read_text())["attentions"])
    for name, each in found[0].items():
        torch.testing.assert_close(each["importance"], found[1][name]["importance"], rtol=1e-3, atol=1e-4)


def test_all_heads_are_kept_where_that_is_asked_for(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    assert s2s_cli(*arguments(model, digits, tmp_path / "whole", "--keep", 1))[0] == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", model))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("keep nothing", "keep=0: expected a share of the heads above 0"),
        ("keep more", "keep=1.5: expected a share of the heads above 0"),
        ("out is there", "is there already; name another folder"),
        ("no data", "wav.scp: no lines"),
        ("no text", "no_text"),
        ("no model", "not a bundle"),
        ("shared keys", "encoder.blocks.0.attention: none of its heads can be removed: heads share keys and values"),
    ],
)
def test_a_mistake_is_named_and_nothing_written(
    s2s_cli: Cli, digits: Path, tiny: list[str], model: Path, tmp_path: Path, what: str, message: str
) -> None:
    keep, out, data = 0.5, tmp_path / "out", tmp_path / "data"
    data.mkdir()
    for name in ("wav.scp", "text", "utt2spk"):
        (data / name).write_text("" if what == "no data" else (digits / "dev" / name).read_text())
    if what == "no text":
        ids = [line.split()[0] for line in (data / "text").read_text().splitlines()]
        (data / "text").write_text("".join(f"{name}\n" for name in ids))
    if what == "out is there":
        out.mkdir()
    if what == "no model":
        model = tmp_path
    if what == "shared keys":
        shared = "model.encoder.attention={kv_heads: 1}"
        model = tmp_path / "shared"
        make_bundle(load_train_config("train", [f"exp_dir={tmp_path}", *tiny, shared])).save(model)
    keep = {"keep nothing": 0.0, "keep more": 1.5}.get(what, keep)
    more = ("--keep", keep, "--report", tmp_path / "report.json")
    code, _, err = s2s_cli("prune", model, "--data", data, "--num-workers", 0, "--out", out, *more)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not (out / "config.yaml").exists()
    assert not (tmp_path / "report.json").exists()
