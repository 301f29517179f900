from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from parallel_toy import sentences, spoilt

Cli = Callable[..., tuple[int, str, str]]
Files = dict[str, Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """40 segments: two references, of which the second differs a little, and an output with two empty lines."""
    reference = sentences(40)
    output = spoilt(reference, 0.3)
    output[3] = output[7] = ""
    texts = {"ref": reference, "other": spoilt(reference, 0.1, seed=9), "hyp": output}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {name: tmp_path / name for name in texts}


def peer(*arguments: object) -> str:
    """What sacrebleu's own command prints."""
    command = [sys.executable, "-m", "sacrebleu", "-w", "2", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("references", [("ref",), ("ref", "other")])
def test_scores_are_those_of_sacrebleus_command(references: tuple[str, ...], files: Files, s2s_cli: Cli) -> None:
    paths = [files[name] for name in references]
    found = json.loads(peer(*paths, "-i", files["hyp"], "-m", "bleu", "chrf", "ter", "-w", 10))
    extra = [option for path in paths[1:] for option in ("--ref", path)]
    for command, expected in zip(("bleu", "chrf", "ter"), found, strict=True):
        code, out, err = s2s_cli("score", command, paths[0], files["hyp"], *extra, "--json")
        content = json.loads(out)
        assert (code, err) == (0, "")
        assert content["metric"] == expected["name"]
        assert content["score"] == pytest.approx(expected["score"], abs=1e-9)
        assert content["signature"] == expected["signature"]
        assert content["references"] == [str(path) for path in paths]


def test_the_line_is_the_one_that_sacrebleu_prints(files: Files, s2s_cli: Cli) -> None:
    code, out, err = s2s_cli("score", "bleu", files["ref"], files["hyp"])
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == peer(files["ref"], "-i", files["hyp"], "-f", "text").strip()
    assert lines[0].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert lines[1:] == [f"40 segments; empty: 0 in {files['ref']}, 2 in {files['hyp']}"]


def test_options_are_sacrebleus(files: Files, s2s_cli: Cli) -> None:
    for command, options, theirs in (
        ("bleu", ("--lowercase", "--tokenize", "char"), ("-lc", "-tok", "char")),
        ("bleu", ("--lower-case", "--tokenize", "none"), ("-lc", "-tok", "none")),
        ("chrf", ("--word-order", "2", "--lowercase"), ("--chrf-word-order", "2", "--chrf-lowercase")),
        ("ter", ("--case-sensitive",), ("--ter-case-sensitive",)),
    ):
        code, out, _ = s2s_cli("score", command, files["ref"], files["hyp"], *options)
        assert code == 0
        assert (
            out.splitlines()[0] == peer(files["ref"], "-i", files["hyp"], "-m", command, "-f", "text", *theirs).strip()
        )


def test_sentences_are_scored_on_request(files: Files, s2s_cli: Cli) -> None:
    _, out, _ = s2s_cli("score", "bleu", files["ref"], files["hyp"], "--sentences")
    lines = out.splitlines()
    assert len(lines) == 42
    theirs = peer(files["ref"], "-i", files["hyp"], "-sl", "-b").splitlines()
    assert [line.split("\t")[1] for line in lines[:40]] == [f"{float(score):.2f}" for score in theirs]
    assert lines[3] == "4\t0.00"
    content = json.loads(s2s_cli("score", "ter", files["ref"], files["hyp"], "--sentences", "--json")[1])
    assert (list(content["sentences"])[:2], content["sentences"]["4"]) == (["1", "2"], 100)
    assert content["empty"] == {str(files["ref"]): 0, str(files["hyp"]): 2}


def test_utterance_ids_are_matched(tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "text").write_text("a ein Hund läuft schnell\nb zwei Katzen\n")
    (tmp_path / "hyp.trn").write_text("zu viel (c)\nein Hund läuft schnell (a)\n")
    code, out, err = s2s_cli("score", "chrf", tmp_path / "text", tmp_path / "hyp.trn", "--kaldi", "--sentences")
    assert code == 0
    assert out.splitlines()[:2] == ["a\t100.00", "b\t0.00"]
    assert f"1 of 2 references have no hypothesis in {tmp_path / 'hyp.trn'} and count as empty: b\n" in err
    assert f"1 of 2 hypotheses in {tmp_path / 'hyp.trn'} have no reference and are not counted: c\n" in err


def test_output_comes_from_standard_input_too(files: Files, s2s_cli: Cli) -> None:
    piped = s2s_cli("score", "bleu", files["ref"], "-", stdin=files["hyp"].read_bytes())
    assert piped[1].splitlines()[0] == s2s_cli("score", "bleu", files["ref"], files["hyp"])[1].splitlines()[0]
    assert "2 in standard input" in piped[1]


def test_output_that_looks_tokenised_is_warned_of(files: Files, s2s_cli: Cli) -> None:
    files["hyp"].write_text("ein Hund .\n" * 40)
    code, _, err = s2s_cli("score", "bleu", files["ref"], files["hyp"])
    assert (code, err.count("\n")) == (0, 1)
    assert f"40 segments of {files['hyp']} end in ' .', as if tokenised: give plain text, or --tokenize none" in err
    assert s2s_cli("score", "bleu", files["ref"], files["hyp"], "--tokenize", "none")[2] == ""
    assert s2s_cli("score", "chrf", files["ref"], files["hyp"])[2] == ""


@pytest.mark.parametrize(
    ("hypothesis", "options", "message"),
    [
        (b"a\n", (), "ref has 40 lines, {hyp} has 1: expected as many"),
        (b"a\n" * 41, (), "ref has 40 lines, {hyp} has 41: expected as many"),
        (b"a\n" * 39 + b"\xe4\n", (), "{hyp}:40: not UTF-8"),
        (b"a\n" * 40, ("--tokenize", "intel"), "--tokenize intel: expected one of none, zh, 13a, intl"),
        (b"a\n" * 40, ("--kaldi",), "ref:"),
        (b"a\n" * 40, ("--ref", "no-file"), "no-file: cannot read it"),
    ],
)
def test_mistakes_are_one_line(
    hypothesis: bytes, options: tuple[str, ...], message: str, files: Files, s2s_cli: Cli
) -> None:
    files["hyp"].write_bytes(hypothesis)
    code, out, err = s2s_cli("score", "bleu", files["ref"], files["hyp"], *options)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message.format(hyp=files["hyp"]) in err


def test_a_third_file_is_not_taken_for_a_reference(files: Files, s2s_cli: Cli) -> None:
    code, _, err = s2s_cli("score", "bleu", files["ref"], files["other"], files["hyp"])
    assert code == 2
    assert "unexpected extra argument" in err


def test_real_captions_score_as_sacrebleu_scores_them(data_root: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    """English scored against German: few matches, but real text of a thousand lines."""
    for name in ("de", "en"):
        with gzip.open(data_root / f"multi30k/test_2016_flickr.{name}.gz", "rb") as stream:
            (tmp_path / name).write_bytes(stream.read())
    content = json.loads(s2s_cli("score", "bleu", tmp_path / "de", tmp_path / "en", "--json")[1])
    expected = json.loads(peer(tmp_path / "de", "-i", tmp_path / "en", "-w", 10))
    assert content["segments"] == 1000
    assert content["score"] == pytest.approx(expected["score"], abs=1e-9)
