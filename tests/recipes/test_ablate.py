"""The ablation scripts: their table, their runs, and what they write about them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from recipe_tree import ROOT, copy_recipe, load_script, run
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.build import build
from s2s.tokenizers.load import train_tokenizer
from s2s.training.config import load_train_config

ablate = load_script("recipes/ablate.py")
KINDS = ablate.read_table(ROOT / "recipes/ablations.txt")
METHODS = ablate.read_table(ROOT / "recipes/methods.txt")


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    sys.modules["ablate"] = ablate  # as when it is the script that runs
    return load_script("recipes/ablation.py")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    train_tokenizer("char", ["one two three"]).save(folder)
    return folder


def table(folder: Path, text: str) -> Path:
    (folder / "table.txt").write_text(text)
    return folder / "table.txt"


def test_a_line_is_a_name_overrides_and_further_decodings(tmp_path: Path) -> None:
    text = """# a comment
    softmax
    relaxed-1.5  model.a={kind:x} 'model.b={c: 1, d: 2}' ~model.e | lm decoding.ngram=x.arpa | wide decoding.beam_size=9

    """
    softmax, relaxed = ablate.read_table(table(tmp_path, text))
    assert (softmax.name, softmax.overrides, softmax.decodings) == ("softmax", (), {})
    assert relaxed.overrides == ("model.a={kind:x}", "model.b={c: 1, d: 2}", "~model.e")
    assert relaxed.decodings == {"lm": ("decoding.ngram=x.arpa",), "wide": ("decoding.beam_size=9",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb model.x\n", r"table\.txt:2: 'model\.x': expected an override KEY=VALUE"),
        ("a\na model.x=1\n", r"table\.txt:2: 'a' is there twice"),
        ("a/b model.x=1\n", r"table\.txt:1: 'a/b': expected a name"),
        (".a\n", r"table\.txt:1: '\.a': expected a name"),
        ("a 'model.x=1\n", r"table\.txt:1: expected NAME KEY=VALUE"),
        ("| decoding.ngram=x\n", r"table\.txt:1: expected NAME KEY=VALUE"),
        ("a | decoding.ngram=x\n", r"table\.txt:1: 'decoding\.ngram=x': expected a name"),
        ("a | lm ngram\n", r"table\.txt:1: 'ngram': expected an override"),
        ("# nothing\n", r"table\.txt: no lines"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ablate.read_table(table(tmp_path, text))


@pytest.mark.parametrize("kind", [*KINDS, *METHODS], ids=lambda kind: kind.name)
def test_every_line_of_the_table_is_a_model_that_learns(kind: Any, tokenizer: Path) -> None:
    torch.manual_seed(0)
    config = load_train_config("fsdd", [f"tokenizer={tokenizer}", *kind.overrides], ROOT / "egs/fsdd/asr/conf")
    model: Any = build(config.model)
    model(torch.randn(1, 70, 40), torch.tensor([70]), torch.tensor([[5, 6, 7]]), torch.tensor([3])).total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_every_line_of_the_table_is_another_model() -> None:
    for kinds in (KINDS, METHODS):
        assert len({kind.overrides for kind in kinds}) == len(kinds)
        assert kinds[0].overrides == ()  # what the others are compared with


@pytest.mark.parametrize("corpus", ["fsdd", "mboshi"])
def test_help_names_the_options_and_wrong_ones_are_refused(corpus: str, tmp_path: Path) -> None:
    script = copy_recipe(corpus, tmp_path) / "ablate.sh"
    done = run(script, "--help")
    assert done.returncode == 0
    for word in ("--only", "--seeds", "--table", "--recipe", "--ngpu", "--decodings", "--exp", "--out", "KEY=VALUE"):
        assert word in done.stdout
    for options, message in {
        ("--sedes", "1"): "--sedes",
        ("--seeds", "one"): "invalid seeds value: 'one'",
        ("--seeds", ""): "--seeds and --decodings: expected at least one",
        ("training.max_epochs",): "'training.max_epochs' is neither an option nor KEY=VALUE",
    }.items():
        done = run(script, *options)
        assert done.returncode == 2
        assert message in done.stderr
    for options, message in {
        ("--only", "softmx"): "--only softmx: no such line in the table. Did you mean 'softmax'?",
        ("--table", "no.txt"): "--table no.txt: no such file",
    }.items():
        done = run(script, *options)
        assert done.returncode == 1
        assert message in done.stderr
    assert not (script.parent / "exp").exists()


def make_run(folder: Path, rates: dict[str, float], seconds: float, peak: float | None, data: Path) -> None:
    """What the recipe leaves of a training of four epochs and its decodings."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    (folder / "train/train.yaml").write_text(f"data: {{train: [{data}]}}\n")
    lines = [json.dumps({"epoch": epoch, "seconds": seconds * epoch / 4}) for epoch in (1, 2, 3, 4)]
    (folder / "train/metrics.jsonl").write_text("\n".join(lines) + "\n")
    for mode, rate in rates.items():
        decoded = folder / "decode/test" / mode
        decoded.mkdir(parents=True)
        (decoded / "score.json").write_text(json.dumps({"wer": {"rate": rate}}))
        (decoded / "decode.json").write_text(json.dumps({"real_time_factor": rate / 10}))
    if peak is not None:
        record = {"train": {"peak_mib": peak}, "decode": {"peak_mib": peak / 2}}
        (folder / "ablation.json").write_text(json.dumps(record))


def test_the_table_has_means_and_ranges_of_what_is_finished(
    ablation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp, data = tmp_path / "exp", tmp_path / "data"
    data.mkdir()
    (data / "utt2dur").write_text("a 60.0\nb 40.0\n")
    make_run(exp / "softmax/1", {"joint": 0.20, "greedy": 0.30}, 10.0, 400.0, data)
    make_run(exp / "softmax/2", {"joint": 0.30, "greedy": 0.40}, 20.0, 600.0, data)
    make_run(exp / "softmax/3", {"joint": 0.90}, 10.0, 100.0, data)  # its greedy decoding is not there yet
    make_run(exp / "relaxed/2", {"joint": 0.25, "greedy": 0.35}, 10.0, None, data)
    make_run(exp / "relaxed/2/further/lm", {"joint": 0.15}, 10.0, 50.0, data)
    for kind in ("softmax/1", "relaxed/2"):
        toy_bundle().save(exp / kind / "averaged")
    text = "softmax\nunfinished a=1\nrelaxed model.x=1 | lm decoding.ngram=x\n"
    kinds = ablate.read_table(table(tmp_path, text))
    ablation.write_report(kinds, exp, tmp_path / "out", ["joint", "greedy"], {})

    lines = (tmp_path / "out/table.md").read_text().splitlines()
    size = f"{sum(p.numel() for p in toy_bundle().model.parameters()):,}"
    kept = [size, "128", "128"]  # keys and values of width 16 in one layer
    two_seeds = ["25.0% (20.0% to 30.0%)", "35.0% (30.0% to 40.0%)", "30", "0.0250", "0.0350", "500", "250", "1 2"]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]] == [
        ["softmax", *kept, *two_seeds],
        ["relaxed", *kept, "25.0%", "35.0%", "40", "0.0250", "0.0350", "", "", "2"],
        ["relaxed, lm", *kept, "15.0%", "", "40", "0.0150", "", "", "25", "2"],
    ]
    assert {line.count("|") for line in lines} == {13}
    assert "\n".join(lines) in capsys.readouterr().out
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert record["rows"][0]["seeds"]["2"]["WER joint"] == 0.30
    assert record["rows"][2]["overrides"] == ["model.x=1", "decoding.ngram=x"]
    assert {"machine", "torch", "commit", "date"} <= record["measured"].keys()
    assert (tmp_path / "out/plot.png").read_bytes().startswith(b"\x89PNG")


def test_costs_measured_apart_take_the_place_of_those_of_the_runs(ablation: ModuleType) -> None:
    seeds = {"1": {"WER joint": 0.2, "RTF joint": 0.5}, "2": {"WER joint": 0.3, "RTF joint": 0.7}}
    row = {"seeds": seeds, "costs": {"WER joint": 0.2, "RTF joint": 0.1}}
    assert ablation.values(row, "RTF joint") == [0.1]
    assert ablation.values(row, "WER joint") == [0.2, 0.3]
    assert ablation.values({**row, "costs": None}, "RTF joint") == [0.5, 0.7]


def test_what_is_known_is_joined_with_what_is_our_own(ablation: ModuleType) -> None:
    known = {
        "name": "a",
        "overrides": [],
        "seeds": {"1": {"WER joint": 0.2}, "3": {"WER joint": 0.4}},
        "costs": {"x": 1},
    }
    own = {"name": "a", "overrides": [], "seeds": {"2": {"WER joint": 0.1}, "3": {"WER joint": 0.3}}, "costs": None}
    assert ablation.joined(known, None) == known
    assert ablation.joined(None, own) == own
    both = ablation.joined(known, own)
    assert {seed: run["WER joint"] for seed, run in both["seeds"].items()} == {"1": 0.2, "2": 0.1, "3": 0.3}
    assert both["costs"] == {"x": 1}


def test_nothing_finished_is_said(ablation: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is finished there yet"):
        ablation.write_report([ablate.Kind("a", (), {})], tmp_path, tmp_path / "out", ["joint"], {})
    assert not (tmp_path / "out").exists()


def test_a_command_is_measured_by_the_process_that_held_most(tmp_path: Path) -> None:
    held = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(200 << 20); print(7)'])"
    measure = (
        f"import ablate, sys, pathlib; print(ablate.measured([sys.executable, '-c', {held!r}], pathlib.Path('a.log')))"
    )
    command = [sys.executable, "-c", measure]  # a process of its own: a new one begins with the memory of its parent
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "recipes")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert 200 < float(re.search(r"'peak_mib': ([\d.]+)", done.stdout)[1]) < 260  # type: ignore[index]
    assert (tmp_path / "a.log").read_text() == "7\n"
    with pytest.raises(ablate.Failed, match=r"^no such thing .*b\.log"):
        ablate.measured([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path / "logs/b.log")


RECIPE = """#!/usr/bin/env python
import json, pathlib, sys

words = sys.argv[1:]
told = dict(zip(words, words[1:]))
with open("calls.txt", "a") as calls:
    print(*words, file=calls)
if "model.x=typo" in words:
    sys.exit("model.x=typo: expected another")
exp = pathlib.Path(told["--exp"])
if told.get("--stage") == "2":
    (exp / "train").mkdir(parents=True)
    (exp / "train/train.yaml").write_text("data: {train: []}")
    (exp / "train/metrics.jsonl").write_text(json.dumps({"epoch": 1, "seconds": 2.0}))
    (exp / "averaged").symlink_to(pathlib.Path("averaged").resolve())
if told.get("--stage") == "4":
    assert (exp / "averaged/model.safetensors").is_file()
    for mode in told["--decodings"].split():
        folder = exp / "decode/test" / mode
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "score.json").write_text(json.dumps({"wer": {"rate": 0.5}}))
        (folder / "decode.json").write_text(json.dumps({"real_time_factor": 0.1}))
"""


def test_what_is_done_is_skipped_and_what_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(RECIPE)
    (tmp_path / "recipe.py").chmod(0o755)
    toy_bundle().save(tmp_path / "averaged")
    table(tmp_path, "a\ntypo model.x=typo\nb model.x=1 | lm decoding.ngram=x\n")

    def call(*options: str) -> tuple[int, str, list[str]]:
        (tmp_path / "calls.txt").write_text("")
        command = [sys.executable, str(ROOT / "recipes/ablate.py"), "--recipe", "./recipe.py --data d"]
        command += ["--table", "table.txt", "--decodings", "joint greedy", "optim.y=2", "decoding.z=3", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr, (tmp_path / "calls.txt").read_text().splitlines()

    data = "--data d --stop-stage 1 --exp exp/ablate"
    train = "--data d --stage 2 --stop-stage 3 --exp exp/ablate/{} --ngpu 1"
    decode = "--data d --stage 4 --stop-stage 5 --force --exp exp/ablate/{} --decodings joint greedy decoding.z=3"
    further = decode.replace(" greedy", "") + " decoding.ngram=x"
    code, error, calls = call("--seeds", "7 8", "--ngpu", "1")
    assert code == 1
    assert "failed: typo, seed 7: model.x=typo: expected another" in error
    assert calls == [
        data,
        *(
            line
            for seed in (7, 8)
            for line in (
                train.format(f"a/{seed}") + f" optim.y=2 training.seed={seed}",
                decode.format(f"a/{seed}"),
                train.format(f"typo/{seed}") + f" model.x=typo optim.y=2 training.seed={seed}",
                train.format(f"b/{seed}") + f" model.x=1 optim.y=2 training.seed={seed}",
                decode.format(f"b/{seed}"),
                further.format(f"b/{seed}/further/lm"),
            )
        ),
    ]
    rows = json.loads((tmp_path / "ablation/results.json").read_text())["rows"]
    assert [(row["name"], [*row["seeds"]]) for row in rows] == [(n, ["7", "8"]) for n in ("a", "b", "b, lm")]

    again = ("--seeds", "7 8", "--only", "b a")
    assert call(*again) == (0, "", [data])
    (tmp_path / "exp/ablate/b/8/further/lm/ablation.json").unlink()  # as if it had been stopped there
    assert call(*again)[2] == [data, further.format("b/8/further/lm")]
    calls = call(*again, "decoding.v=4")[2]  # decoded anew, not trained
    assert calls[:2] == [data, decode.format("a/7") + " decoding.v=4"]
    assert len(calls) == 7
    assert not any("--stage 2" in line for line in calls)
    assert call("--costs", "--only", "b", "--ngpu", "1")[2] == [
        data,
        "--data d --stage 2 --stop-stage 2 --exp exp/ablate/b/costs --ngpu 1 model.x=1 optim.y=2 training.seed=1 "
        "training.max_epochs=1",
        decode.format("b/costs"),
        further.format("b/costs/further/lm"),
    ]
    rows = json.loads((tmp_path / "ablation/results.json").read_text())["rows"]
    assert [row["costs"] is not None for row in rows] == [False, True, True]
    code, error, calls = call(*again, "optim.y=3")
    assert (code, calls) == (1, [data])
    assert "exp/ablate/a/7: was trained with other settings" in error

    shutil.rmtree(tmp_path / "exp")  # another machine, which is told
    elsewhere = ("--known", "ablation/results.json", "--only", "a", "--seeds", "7 9", "--ngpu", "1")
    assert call(*elsewhere)[2] == [data, train.format("a/9") + " optim.y=2 training.seed=9", decode.format("a/9")]
    rows = json.loads((tmp_path / "ablation/results.json").read_text())["rows"]
    assert [[*row["seeds"]] for row in rows] == [["7", "8", "9"], ["7", "8"], ["7", "8"]]
    table(tmp_path, "a model.x=2\n")
    assert "--known: a was made with [], which is not what the table says" in call(*elsewhere)[1]
    (tmp_path / "other.json").write_text('{"rows": [{"name": "a"}]}')
    for name in ("none.json", "other.json"):
        assert f"--known {name}" in call("--known", name)[1]


def test_ablate_trains_and_decodes(digits: Path, tiny: list[str], tmp_path: Path) -> None:
    recipe = copy_recipe("fsdd", tmp_path)
    shutil.copytree(digits, recipe / "data/official", ignore=shutil.ignore_patterns("tokenizer"))
    shutil.copytree(digits / "dev", recipe / "data/official/test")
    smaller = [option for option in tiny if option.startswith(("features", "spec", "model", "data.m", "training.acc"))]
    options = ["--recipe", "./run.sh --stage 1", "--only", "relaxed-encoder", "--seeds", "2", "--decodings", "joint"]
    done = run(recipe / "ablate.sh", *options, *smaller, "training.max_epochs=1", "decoding.beam_size=3")
    assert done.returncode == 0, done.stderr
    [row] = json.loads((recipe / "ablation/results.json").read_text())["rows"]
    measures = row["seeds"]["2"]
    assert measures.pop("audio seconds a second") is None  # there is no utt2dur
    assert all(value >= 0 for value in measures.values())
    train = (recipe / "exp/ablate/relaxed-encoder/2/train/train.yaml").read_text()
    assert "kind: relaxed" in train
    assert "seed: 2" in train
