"""Longer and longer utterances: how they are joined, decoded and laid side by side."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import torch
from recipe_tree import ROOT, copy_recipe, load_script, run
from toy import toy_bundle

from s2s.errors import UserError


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other, as when one of them runs."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))


@pytest.fixture
def long(recipes: None) -> ModuleType:
    return load_script("recipes/long.py")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    toy_bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def lines(file: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in file.read_text().splitlines())


@pytest.mark.parametrize("times", [1, 4])
def test_utterances_of_a_speaker_come_one_after_the_other(digits: Path, tmp_path: Path, times: int) -> None:
    join = load_script("recipes/join.py")
    join.join(digits / "train", tmp_path / "joined", times)
    texts, speakers = lines(digits / "train/text"), lines(digits / "train/utt2spk")
    audio = {name: soundfile.read(path, dtype="int16")[0] for name, path in lines(digits / "train/wav.scp").items()}
    order = list(texts)
    given: list[str] = []
    for name, path in lines(tmp_path / "joined/wav.scp").items():
        first = name.removesuffix(f"-x{times}")
        own = [each for each in order if speakers[each] == speakers[first]]
        members = own[own.index(first) :][:times]
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 8000
        assert samples.tolist() == [value for each in members for value in audio[each].tolist()]
        assert lines(tmp_path / "joined/text")[name] == " ".join(texts[each] for each in members)
        assert lines(tmp_path / "joined/utt2spk")[name] == speakers[first]
        given += members
    assert Counter(given) == Counter(order)  # every utterance once
    join.join(digits / "train", tmp_path / "again", times)
    assert (tmp_path / "again/text").read_bytes() == (tmp_path / "joined/text").read_bytes()


def test_utterances_of_nobody_are_not_joined(digits: Path, tmp_path: Path) -> None:
    for name in ("wav.scp", "text"):
        (tmp_path / name).write_text((digits / "dev" / name).read_text())
    with pytest.raises(UserError, match=r"wav\.scp:1: no speaker is known of utterance .*; add it to utt2spk"):
        load_script("recipes/join.py").join(tmp_path, tmp_path / "joined", 2)


def test_a_system_is_a_name_a_bundle_a_decoding_and_overrides(long: ModuleType, bundle: Path) -> None:
    word = f"a-1={bundle}:joint,decoding.beam_size=4,decoding.ctc_weight=0.5"
    system = long.read_system(word)
    assert (system.name, system.bundle, system.decoding) == ("a-1", bundle, "joint")
    assert system.overrides == ("decoding.beam_size=4", "decoding.ctc_weight=0.5")
    assert long.read_system(f"b={bundle}:ctc_greedy").overrides == ()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("BUNDLE:joint", r"expected NAME=BUNDLE:DECODING\[,decoding\.KEY=VALUE\.\.\.\]"),
        ("a=BUNDLE", "expected NAME=BUNDLE:DECODING"),
        ("a/b=BUNDLE:joint", "'a/b': expected a name of letters"),
        ("data=BUNDLE:joint", "'data': expected a name of letters"),
        ("a=nowhere:joint", "a: nowhere: not a bundle"),
        ("a=BUNDLE:jiont", r"a: 'jiont': expected one of beam, .* Did you mean 'joint'\?"),
        ("a=BUNDLE:joint,beam_size=2", r"a: 'beam_size=2': expected decoding\.KEY=VALUE"),
    ],
)
def test_a_faulty_system_is_named(long: ModuleType, bundle: Path, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        long.read_systems([word.replace("BUNDLE", str(bundle))])


def test_two_systems_of_one_name_are_refused(long: ModuleType, bundle: Path) -> None:
    with pytest.raises(UserError, match="'a' is there twice"):
        long.read_systems([f"a={bundle}:joint", f"a={bundle}:beam"])


def test_help_names_the_options_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    script = copy_recipe("fsdd", tmp_path) / "long.sh"
    done = run(script, "--help")
    assert done.returncode == 0
    for word in ("--systems", "--times", "--data", "--exp", "--out", "NAME=BUNDLE:DECODING", "decoding.KEY=VALUE"):
        assert word in done.stdout
    for options, code, message in (
        (("--sistems", "a"), 2, "--sistems"),
        (("--times", "0 1"), 2, "invalid numbers value: '0 1'"),
        (("--systems", ""), 2, "expected at least one"),
        (("beam_size=2",), 2, "'beam_size=2' is neither an option nor decoding.KEY=VALUE"),
        ((), 1, "exp/official/bundle: not a bundle"),
    ):
        done = run(script, *options)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert not (script.parent / "exp").exists()


def test_systems_are_decoded_measured_and_laid_side_by_side(digits: Path, bundle: Path, tmp_path: Path) -> None:
    recipe = copy_recipe("fsdd", tmp_path / "tree")
    systems = f"wrong={bundle}:joint,decoding.beam_size=0 wide={bundle}:ctc_prefix,decoding.beam_size=3"
    options = ["--data", str(digits / "dev"), "--times", "2", "--systems", systems, "decoding.batch_size=2"]
    done = run(recipe / "long.sh", *options)
    assert done.returncode == 1  # what fails stops nobody else
    assert "failed: wrong, 2 times: s2s: error: decoding.nbest=1: expected 1 to beam_size=0" in done.stderr
    [system] = json.loads((recipe / "long/results.json").read_text())["systems"]
    assert (system["name"], system["overrides"]) == ("wide", ["decoding.beam_size=3"])
    measured = system["times"]["2"]
    assert measured["words"] == sum(len(text.split()) for text in lines(digits / "dev/text").values())
    assert measured["rtf"] > 0
    assert 100 < measured["peak_mib"] < 3000
    told = json.loads((recipe / "exp/long/wide/2/decode.json").read_text())["decoding"]
    assert (told["search"], told["beam_size"], told["batch_size"]) == ("ctc_prefix", 3, 2)
    table = (recipe / "long/table.md").read_text().splitlines()
    titles = ["| word error rate (%)", "| real-time factor", "| peak memory (MiB)"]
    assert [line.split(" |")[0] for line in table[::4]] == titles
    assert (recipe / "long/plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_done_is_not_done_again_unless_something_changed(
    long: ModuleType, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def measured(command: list[str], log: Path) -> dict[str, float]:
        commands.append(command)
        folder = log.with_suffix("")
        assert not folder.exists()  # nothing of an older run is left
        folder.mkdir(parents=True)
        (folder / "text").write_text("")
        return {"peak_mib": 1.0}

    monkeypatch.setattr(long, "measured", measured)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/text").write_text("a one\n")

    def decode(word: str, *overrides: str) -> int:
        options = Namespace(exp=tmp_path / "exp", data=tmp_path / "data", overrides=[*overrides])
        before = len(commands)
        long.decode(options, long.read_system(word), 3, long.join(options, 3))
        return len(commands) - before

    assert decode(f"a={bundle}:joint") == 2
    assert commands[0][-3:] == [str(tmp_path / "data"), str(tmp_path / "exp/data/3"), "3"]
    assert commands[1][-1] == "decoding=joint"
    assert decode(f"a={bundle}:joint") == 0
    assert decode(f"b={bundle}:joint") == 1
    assert decode(f"a={bundle}:joint,decoding.nbest=2") == 1
    assert decode(f"a={bundle}:joint,decoding.nbest=2", "decoding.beam_size=3") == 1
    assert commands[-1][-3:] == ["decoding=joint", "decoding.beam_size=3", "decoding.nbest=2"]
    other = toy_bundle()
    with torch.no_grad():
        next(other.model.parameters()).mul_(2.0)
    other.save(bundle)
    assert decode(f"b={bundle}:joint") == 1
    (tmp_path / "data/text").write_text("a two\n")
    assert decode(f"b={bundle}:joint") == 2


def test_the_report_has_the_error_rates_of_what_is_finished(
    recipes: None, long: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = load_script("recipes/long_report.py")
    exp = tmp_path / "exp"
    for n, seconds in ((1, 2.0), (2, 4.0)):
        folder = exp / "data" / str(n)
        folder.mkdir(parents=True)
        (folder / "text").write_text(f"a-x{n} one two three four\n")
        (folder / "utt2dur").write_text(f"a-x{n} {seconds}\n")
    for name, n, text, rtf in (("a", 1, "one two three four", 0.01), ("a", 2, "one two", 0.02), ("b", 1, "", 0.5)):
        folder = exp / name / str(n)
        folder.mkdir(parents=True)
        (folder / "text").write_text(f"a-x{n} {text}\n")
        (folder / "decode.json").write_text(json.dumps({"real_time_factor": rtf}))
        (folder / "long.json").write_text(json.dumps({"told": {}, "peak_mib": 100.0 * n}))
    systems = [long.System(name, tmp_path, "joint", ()) for name in ("a", "b", "c")]
    report.write_report(systems, [1, 2], exp, tmp_path / "out")
    table = (tmp_path / "out/table.md").read_text()
    assert table in capsys.readouterr().out
    assert table.splitlines()[:4] == [
        "| word error rate (%) | 1 times (2.0 s) | 2 times (4.0 s) |",
        "|---|---|---|",
        "| a | 0.0 | 50.0 |",
        "| b | 100.0 |  |",
    ]
    assert "| a | 0.0100 | 0.0200 |" in table
    assert "| a | 100 | 200 |" in table
    with pytest.raises(UserError, match="nothing is finished there yet"):
        report.write_report(systems, [6], exp, tmp_path / "none")
    assert not (tmp_path / "none").exists()
