from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from parallel_toy import sentences, spoilt

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two outputs, the second better, and the reference; as plain lines."""
    reference = sentences(60)
    texts = {"a": spoilt(reference, 0.3, 1), "b": spoilt(reference, 0.15, 2), "ref": reference}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [tmp_path / name for name in texts]


@pytest.fixture
def keyed(files: list[Path]) -> list[Path]:
    """The same as Kaldi `text`."""
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("".join(f"u{i} {line}\n" for i, line in enumerate(lines)), encoding="utf-8")
    return files


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
def test_p_values_are_those_of_sacrebleus_command(metric: str, files: list[Path], s2s_cli: Cli) -> None:
    first, second, ref = files
    options = ["--paired-ar", "--paired-ar-n", "400", "-m", metric]
    command = [sys.executable, "-m", "sacrebleu", str(ref), "-i", str(first), str(second), *options]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    code, out, err = s2s_cli(
        "score",
        "compare",
        first,
        second,
        "--ref",
        ref,
        "--metric",
        metric,
        "--shuffles",
        400,
        "--samples",
        200,
        "--json",
    )
    content = json.loads(out)
    assert (code, err) == (0, "")
    name = content["metric"]
    assert [each["score"] for each in content["systems"]] == pytest.approx([each[name]["score"] for each in theirs])
    assert content["tests"][0]["p_value"] == theirs[1][name]["p_value"]
    assert content["difference"] == pytest.approx(theirs[1][name]["score"] - theirs[0][name]["score"])
    assert "|ar:400|seed:12345|" in content["signature"]


def test_the_table_ends_with_a_sentence_and_the_signature(files: list[Path], s2s_cli: Cli) -> None:
    first, second, ref = files
    code, out, err = s2s_cli(
        "score", "compare", first, second, "--ref", ref, "--metric", "bleu", "--shuffles", 100, "--samples", 100
    )
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["BLEU", "95", "%", "interval"]
    assert lines[1].startswith(f"A  {first}")
    assert lines[2].endswith("of resamplings")
    assert lines[3].startswith("B - A")
    assert lines[6].split()[:2] == ["approximate", "randomisation"]
    assert lines[-2].startswith("B is better than A by ")
    assert lines[-1].startswith("signature: nrefs:1|bs:100|ar:100|seed:12345|")


@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_error_rates_are_those_of_score_wer(metric: str, keyed: list[Path], s2s_cli: Cli) -> None:
    first, second, ref = keyed
    code, out, _ = s2s_cli(
        "score", "compare", first, second, "--ref", ref, "--metric", metric, "--samples", 200, "--json"
    )
    content = json.loads(out)
    assert code == 0
    for path, system in zip((first, second), content["systems"], strict=True):
        alone = json.loads(s2s_cli("score", "wer", ref, path, "--cer", "--json")[1])[metric]
        assert system["score"] == pytest.approx(100 * alone["rate"])
        assert content["signature"].startswith(alone["signature"])
    assert content["higher_is_better"] is False
    assert content["tests"][0]["name"].startswith("matched pairs of ")
    assert content["conclusion"].startswith("B is better than A by ")


def test_seeds_and_samples_are_chosen(keyed: list[Path], s2s_cli: Cli) -> None:
    first, second, ref = keyed
    command = ("score", "compare", first, second, "--ref", ref, "--metric", "wer", "--json", "--samples")
    runs = [s2s_cli(*command, 100), s2s_cli(*command, 100), s2s_cli(*command, 100, "--seed", 5), s2s_cli(*command, 150)]
    assert runs[0] == runs[1]
    assert len({json.loads(run[1])["difference_interval"][0] for run in runs}) == 3
    assert "|seed:5|bs:100" in runs[2][1]


def test_ids_that_differ_are_warned_of(keyed: list[Path], s2s_cli: Cli) -> None:
    first, second, ref = keyed
    second.write_text("\n".join(second.read_text().splitlines()[:-1]) + "\nx y\n")
    for metric, what in (("wer", "deleted"), ("bleu", "empty")):
        options = ("--kaldi",) if metric == "bleu" else ()
        code, _, err = s2s_cli(
            "score", "compare", first, second, "--ref", ref, "--metric", metric, "--samples", 100, *options
        )
        assert code == 0
        assert f"1 of 60 references have no hypothesis in {second} and count as {what}: u59\n" in err
        assert f"1 of 60 hypotheses in {second} have no reference and are not counted: x\n" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--metric", "blue"), 2, "--metric blue: expected one of bleu, chrf, ter, wer, cer. Did you mean 'bleu'?"),
        (("--metric", "wer", "--tokenize", "char"), 2, "--tokenize is for bleu, not for wer"),
        (("--metric", "chrf", "--case-sensitive"), 2, "--case-sensitive is for ter, not for chrf"),
        (("--metric", "bleu", "--word-order", "2"), 2, "--word-order is for chrf, not for bleu"),
        (("--metric", "ter", "--lower-case"), 2, "TER is lower-cased unless --case-sensitive is given"),
        (("--metric", "cer", "--shuffles", "500"), 2, "--shuffles is for bleu, chrf and ter, not for cer"),
        (("--metric", "wer", "--ref", "other"), 2, "--ref: wer has one file of references, got 2"),
        (("--metric", "bleu", "--ref", "no-file"), 1, "no-file: cannot read it"),
    ],
)
def test_mistakes_are_one_line(
    options: tuple[str, ...], code: int, message: str, files: list[Path], s2s_cli: Cli
) -> None:
    first, second, ref = files
    found, out, err = s2s_cli("score", "compare", first, second, "--ref", ref, *options)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_files_without_ids_need_no_ids(files: list[Path], s2s_cli: Cli) -> None:
    first, second, ref = files
    second.write_text("one line\n")
    code, _, err = s2s_cli("score", "compare", first, second, "--ref", ref, "--metric", "chrf")
    assert code == 1
    assert f"{ref} has 60 lines, {second} has 1" in err
