from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jiwer
import pytest

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two utterances with one substitution and one insertion."""
    (tmp_path / "ref").write_text("a the cat sat\nb Guten Tag\n")
    (tmp_path / "hyp.trn").write_text("guten Tag (b)\nthe cat sat down (a)\n")
    return tmp_path / "ref", tmp_path / "hyp.trn"


def test_lines_are_as_kaldi_writes_them(files: tuple[Path, Path], s2s_cli: Cli) -> None:
    code, out, err = s2s_cli("score", "wer", *files)
    assert (code, err) == (0, "")
    assert out == "%WER 40.00 [ 2 / 5, 1 ins, 0 del, 1 sub ]\n%SER 100.00 [ 2 / 2 ]\n"


def test_characters_are_scored_beside_words(files: tuple[Path, Path], s2s_cli: Cli) -> None:
    _, out, _ = s2s_cli("score", "wer", *files, "--cer", "--lower-case")
    assert out.splitlines() == [
        "%WER 20.00 [ 1 / 5, 1 ins, 0 del, 0 sub ]",
        "%CER 25.00 [ 5 / 20, 5 ins, 0 del, 0 sub ]",
        "%SER 50.00 [ 1 / 2 ]",
    ]


def test_alignments_come_before_the_lines(files: tuple[Path, Path], s2s_cli: Cli) -> None:
    _, out, _ = s2s_cli("score", "wer", *files, "--alignments")
    assert "REF: the cat sat ****\nHYP: the cat sat down\nOPS:             I\n" in out
    assert out.splitlines()[-2].startswith("%WER 40.00")


def test_json_has_the_numbers_and_the_ids(files: tuple[Path, Path], s2s_cli: Cli) -> None:
    reference, hypothesis = files
    hypothesis.write_text("guten Tag (b)\nhello (x)\n")
    code, out, err = s2s_cli("score", "wer", reference, hypothesis, "--json", "--cer", "--alignments")
    content = json.loads(out)
    assert code == 0
    assert content["wer"]["signature"].startswith("jiwer:4")
    assert [content["wer"][key] for key in ("rate", "errors", "references", "deletions")] == [0.8, 4, 5, 3]
    assert content["cer"]["unit"] == "char"
    assert content["ser"] == {"rate": 1.0, "errors": 2, "references": 2}
    assert (content["missing"], content["extra"]) == (["a"], ["x"])
    assert [utterance["id"] for utterance in content["wer"]["utterances"]] == ["a", "b"]
    assert "1 of 2 references have no hypothesis and count as deleted: a" in err


def test_differing_ids_are_a_warning_and_with_strict_a_failure(files: tuple[Path, Path], s2s_cli: Cli) -> None:
    reference, hypothesis = files
    reference.write_text("a the cat sat\n" + "".join(f"m{i} x\n" for i in range(7)))
    code, out, err = s2s_cli("score", "wer", reference, hypothesis)
    assert (code, out.splitlines()[0]) == (0, "%WER 80.00 [ 8 / 10, 1 ins, 7 del, 0 sub ]")
    assert "7 of 8 references have no hypothesis and count as deleted: m0, m1, m2, m3, m4, ...\n" in err
    assert "1 of 2 hypotheses have no reference and are not counted: b\n" in err
    assert s2s_cli("score", "wer", reference, hypothesis, "--strict") == (1, out, err)
    reference.write_text("a the cat sat\n")
    assert s2s_cli("score", "wer", reference, hypothesis, "--strict")[0] == 0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("c x\n", "s2s: error: no utterance id is in both files"),
        ("a\nb\n", "s2s: error: the references hold no words: the rate is undefined"),
        ("", "s2s: error: there are no references"),
        ("a x\na y\n", "ref:2: utterance 'a' is already on line 1"),
    ],
)
def test_mistakes_are_one_line(reference: str, message: str, files: tuple[Path, Path], s2s_cli: Cli) -> None:
    files[0].write_text(reference)
    code, out, err = s2s_cli("score", "wer", *files)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_hypotheses_come_from_standard_input_too(files: tuple[Path, Path], s2s_cli: Cli) -> None:
    stdin = files[1].read_bytes()
    assert s2s_cli("score", "wer", files[0], "-", stdin=stdin) == s2s_cli("score", "wer", *files)
    assert "no-file: cannot read it" in s2s_cli("score", "wer", files[0], "no-file")[2]
    code, _, err = s2s_cli("score", "wer", files[0], "-", stdin=b"a x\nb \xff\n")
    assert (code, err[:30]) == (1, "s2s: error: standard input:2: ")


def test_german_without_its_last_word_scores_as_jiwer_says(data_root: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    with open(data_root / "kerstin-german-cc0/metadata.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    pairs = [(row["id"], row["text"], " ".join(row["text"].split()[:-1])) for row in rows]
    (tmp_path / "text").write_text("".join(f"{i} {text}\n" for i, text, _ in pairs), encoding="utf-8")
    (tmp_path / "hyp.trn").write_text("".join(f"{text} ({i})\n" for i, _, text in pairs), encoding="utf-8")
    content = json.loads(s2s_cli("score", "wer", tmp_path / "text", tmp_path / "hyp.trn", "--json")[1])
    assert content["wer"]["deletions"] == content["wer"]["errors"] == content["ser"]["errors"] == len(pairs)
    expected = jiwer.wer([text for _, text, _ in pairs], [text for _, _, text in pairs])
    assert content["wer"]["rate"] == pytest.approx(expected, rel=1e-12)


def test_latency_is_simulevals_of_its_log(s2s_cli: Cli) -> None:
    logs = Path(__file__).parents[1] / "scoring" / "latency_logs"
    code, out, err = s2s_cli("score", "latency", logs / "speech.log")
    assert (code, err) == (0, "")
    assert "AL     2534.098   2616.091\n" in out
    scores = json.loads((logs / "scores.json").read_text())
    content = json.loads(s2s_cli("score", "latency", logs / "char.log", "--unit", "char", "--json")[1])
    assert {name: content[name] for name in scores["char"]} == pytest.approx(scores["char"])
    stdin = (logs / "text.log").read_bytes()
    assert s2s_cli("score", "latency", "-", stdin=stdin) == s2s_cli("score", "latency", logs / "text.log")


def test_latency_of_recognition_comes_from_its_events(tmp_path: Path, s2s_cli: Cli) -> None:
    event = {"source": "é", "event": "final", "text": "a b", "start": 0.5, "end": 1.5, "heard": 2, "words": None}
    lines = [{**event, "wall": 2.25}, {"source": "é", "event": "end", "heard": 3, "wall": 3.1}]
    (tmp_path / "events").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = s2s_cli("score", "latency", tmp_path / "events")
    assert (code, err) == (0, "")
    assert out.startswith("1 sources, 1 segments, 2 words; seconds\n")
    content = json.loads(s2s_cli("score", "latency", tmp_path / "events", "--json")[1])
    assert [content[key]["median"] for key in ("first_partial", "final", "final_CA")] == [1.5, 0.5, 0.75]
    assert list(content["sources"]) == ["é"]
    lines[1]["wall"] = lines[0]["wall"] = 1.0
    (tmp_path / "events").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = s2s_cli("score", "latency", tmp_path / "events")
    assert (code, err.count("\n")) == (0, 1)
    assert "warning: 1 sources were fed faster than real speed: their CA figures are no latencies: é" in err


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", (), "log: no lines in it"),
        ("{}\n", (), "log:1: expected an instances.log (with 'delays') or an event log of s2s stream (with 'event')"),
        ('{"delays": [1]}\n', (), "log:1: no 'source'"),
        ('{"delays": [1], "source": "a", "source_length": 1, "index": 0, "prediction": ""}', (), "log:1: 1 times in"),
        ('{"delays": [1]}\n', ("--unit", "letter"), "unknown unit 'letter': expected word or char"),
        ('{"event": "end"}\n', (), "log:1: no 'source'"),
        ('{"event": "end"}\n', ("--unit", "char"), "log: --unit char is for an instances.log; this is an event log"),
    ],
)
def test_mistakes_in_logs_are_one_line(
    content: str, options: tuple[str, ...], message: str, tmp_path: Path, s2s_cli: Cli
) -> None:
    (tmp_path / "log").write_text(content)
    code, out, err = s2s_cli("score", "latency", tmp_path / "log", *options)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_the_command_runs_as_a_program(files: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "s2s.cli.main", "score", "wer", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("%WER 40.00 [ 2 / 5,")
