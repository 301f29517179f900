"""`s2s translate`: a line for a line, whatever the lines are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_seq2seq import ENGLISH, LANGUAGES, toy_translation_bundle

from s2s.translation import Translator, load_translation_model

Cli = Callable[..., tuple[int, str, str]]
LINES = [ENGLISH[0], "", ENGLISH[1], "  ", "a bird", ENGLISH[3]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mt")
    toy_translation_bundle(folder / "theirs").save(folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def expected(model: Path) -> list[str]:
    found = [t.text for t in Translator(load_translation_model(model)).translate(LINES)]
    assert len(set(found)) > 2  # the empty one and others
    return found


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


def test_standard_input_goes_to_standard_output_line_for_line(model: Path, expected: list[str], s2s_cli: Cli) -> None:
    for arguments in ([], ["-"]):
        for text in ("\n".join(LINES), "\n".join(LINES) + "\n", "\r\n".join(LINES)):
            code, out, err = s2s_cli("translate", "--model", model, *arguments, stdin=text)
            assert (code, err) == (0, "")
            assert out == "".join(f"{line}\n" for line in expected)
    assert s2s_cli("translate", "--model", model, stdin="") == (0, "", "")
    assert s2s_cli("translate", "--model", model, stdin="\n\n") == (0, "\n\n", "")


def test_files_are_written_one_behind_the_other_or_to_a_folder(
    model: Path, expected: list[str], tmp_path: Path, s2s_cli: Cli
) -> None:
    first, second = tmp_path / "a" / "talk.en", tmp_path / "b" / "talk.en"
    for path, part in ((first, LINES[:2]), (second, LINES[2:])):
        path.parent.mkdir()
        path.write_text("".join(f"{line}\n" for line in part), encoding="utf-8-sig")  # a byte order mark
    code, out, err = s2s_cli("translate", "--model", model, first, second)
    assert (code, err, out.split("\n")) == (0, "", [*expected, ""])
    code, out, err = s2s_cli("translate", "--model", model, first, second, "--output", tmp_path / "all.de")
    assert (code, out, err) == (0, "", "")
    assert lines(tmp_path / "all.de") == [*expected, ""]
    code, out, err = s2s_cli("translate", "--model", model, first, second, "--output-dir", tmp_path / "out")
    assert (code, out, err) == (0, "", "")
    found = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.txt"))
    assert len(found) == 2  # of the same base name, and neither is lost
    assert sorted(lines(tmp_path / "out" / path)[:-1] for path in found) == sorted([expected[:2], expected[2:]])


def test_lines_that_cannot_be_translated_are_named_and_the_rest_go_on(
    model: Path, expected: list[str], tmp_path: Path, s2s_cli: Cli
) -> None:
    bad = tmp_path / "bad.txt"
    long, longer = b"a bird " * 40, b"a bird " * 50_000
    bad.write_bytes(b"\n".join([LINES[0].encode(), b"caf\xe9", long, longer, LINES[2].encode(), longer]))
    code, out, err = s2s_cli("translate", "--model", model, bad, "--output", tmp_path / "out")
    assert (code, out) == (1, "")
    assert lines(tmp_path / "out") == [expected[0], "", "", "", expected[2], "", ""]
    told = err.splitlines()
    assert len(told) == 4
    assert f"s2s: error: {bad}:2: not UTF-8 (" in told[0]
    assert f"s2s: error: {bad}:3: too long: " in told[1]
    assert "tokens, the model takes 40" in told[1]
    assert f"{bad}:4: too long: more than 65536 bytes" in told[2]
    assert f"{bad}:6: too long: more than 65536 bytes" in told[3]
    assert "standard input:1: not UTF-8" in s2s_cli("translate", "--model", model, stdin=b"\xff")[2]


def test_a_line_that_just_fits_is_read_whole(model: Path, s2s_cli: Cli) -> None:
    for end in ("", "\n"):
        for size in (65534, 65535):
            text = "a" + " " * (size - 1) + end
            code, out, err = s2s_cli("translate", "--model", model, stdin=f"{text}\n" if end == "" else text)
            assert (code, err, out.count("\n")) == (0, "", 1)


def test_a_file_that_cannot_be_read_is_named_and_the_rest_go_on(
    model: Path, expected: list[str], tmp_path: Path, s2s_cli: Cli
) -> None:
    good = tmp_path / "good.txt"
    good.write_text("\n".join(LINES), encoding="utf-8")
    for options in ([], ["--output", tmp_path / "all"], ["--output-dir", tmp_path / "out"]):
        code, _, err = s2s_cli("translate", "--model", model, tmp_path / "none.txt", good, tmp_path, *options)
        assert code == 1
        assert f"s2s: error: {tmp_path / 'none.txt'}: cannot read it: No such file" in err
        assert f"s2s: error: {tmp_path}: cannot read it: Is a directory" in err
        assert err.count("\n") == 2
    assert lines(tmp_path / "all") == lines(tmp_path / "out" / "good.txt") == [*expected, ""]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.txt"]
    code, _, _ = s2s_cli("translate", "--model", model, tmp_path / "none.txt", "--output", tmp_path / "nothing")
    assert (code, (tmp_path / "nothing").exists()) == (1, False)


def test_the_best_of_each_line_come_with_number_and_score(model: Path, expected: list[str], s2s_cli: Cli) -> None:
    code, out, err = s2s_cli("translate", "--model", model, "--nbest", 3, stdin="\n".join(LINES))
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.removesuffix("\n").split("\n")]
    by_number = {n: [row for row in rows if row[0] == str(n)] for n in range(1, len(LINES) + 1)}
    assert [row for found in by_number.values() for row in found] == rows  # in order
    for number, found in by_number.items():
        assert len(found) == (3 if LINES[number - 1].strip() else 1)
        assert found[0][2] == expected[number - 1]
        scores = [float(score) for _, score, _ in found]
        assert scores == sorted(scores, reverse=True)
    code, out, err = s2s_cli("translate", "--model", model, "--nbest", 3, "--beam-size", 2, stdin="a")
    assert (code, err) == (1, "s2s: error: decoding.nbest=3: expected 1 to beam_size=2\n")


def test_options_of_the_search_and_of_the_machine_are_heeded(model: Path, expected: list[str], s2s_cli: Cli) -> None:
    text = "\n".join(LINES)
    for options in (["--batch-size", 1], ["--threads", 1, "--device", "cpu"], ["--beam-size", 5]):
        assert s2s_cli("translate", "--model", model, *options, stdin=text)[1].split("\n") == [*expected, ""]
    greedy = s2s_cli("translate", "--model", model, "--decoding", "greedy", stdin=text)
    assert greedy == s2s_cli("translate", "--model", model, "--beam-size", 1, stdin=text)
    score = [
        s2s_cli("translate", "--model", model, "--nbest", 1, "--dtype", dtype, stdin=text)[1].split("\t")[1]
        for dtype in ("float32", "float64")
    ]
    assert score[0] == score[1]


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (1, ["--dtype", "int3"], "dtype=int3: expected one of float32"),
        (1, ["--device", "gpu0"], "--device gpu0: "),
        (1, ["--decoding", "ctc_greedy"], "decoding=ctc_greedy: needs a CTC output"),
        (1, ["--decoding", "grredy"], "grredy"),
        (1, ["--target-language", "deu"], "target language 'deu': the model translates into one language only"),
        (2, ["--output", "x", "--output-dir", "y"], "--output and --output-dir: give one of them"),
        (2, ["--output", "."], "--output .: is a folder"),
        (2, ["-", "-"], "-: is given twice"),
        (2, ["--output-dir", "/dev/null"], "--output-dir /dev/null: is a file, expected a folder"),
    ],
)
def test_a_mistake_is_one_line(
    code: int,
    options: list[str],
    message: str,
    model: Path,
    tmp_path: Path,
    s2s_cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = s2s_cli("translate", "--model", model, *options, stdin="a")
    assert (found, out) == (code, "")
    assert err.startswith("s2s: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_is_not_overwritten(model: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    text = tmp_path / "a.txt"
    text.write_text("a bird\n")
    for options in (["--output", text], ["--output-dir", tmp_path]):
        code, _, err = s2s_cli("translate", "--model", model, text, *options)
        assert code == 2
        assert "is to be read and would be overwritten" in err
    assert text.read_text() == "a bird\n"


def test_a_model_that_is_none_is_named_with_what_is_accepted(tmp_path: Path, s2s_cli: Cli) -> None:
    code, out, err = s2s_cli("translate", "--model", tmp_path, stdin="a")
    assert (code, out) == (1, "")
    assert f"'{tmp_path}': no translation model; expected a translation bundle, a folder of Marian or BART" in err


def test_a_language_is_chosen_of_several(tmp_path: Path, s2s_cli: Cli) -> None:
    toy_translation_bundle(tmp_path / "theirs", LANGUAGES).save(tmp_path / "many")
    many = load_translation_model(tmp_path / "many")
    expected = [next(Translator(many, target_language=code).translate("the sea")).score for code in ("deu", "nld")]
    options = ["--model", tmp_path / "many", "--nbest", 1]
    found = [s2s_cli("translate", *options, "--target-language", code, stdin="the sea")[1] for code in ("deu", "nld")]
    assert [line.split("\t")[1] for line in found] == [f"{score:.4f}" for score in expected]
    assert expected[0] != expected[1]
    code, out, err = s2s_cli("translate", *options, stdin="the sea\n>>nld<<the sea\n")
    assert (code, out) == (1, f"1\t0.0000\t\n{found[1].replace('1', '2', 1)}")
    assert err == "s2s: error: standard input:1: no target language: name one; it has deu, nld.\n"


def test_a_folder_of_transformers_is_read_and_imported(tmp_path: Path, s2s_cli: Cli) -> None:
    from tiny_seq2seq import random_bart, random_marian, write, write_bart_tokenizer, write_marian_tokenizer

    for kind in ("marian", "bart"):
        theirs = tmp_path / kind
        is_marian = kind == "marian"
        size = write_marian_tokenizer(theirs)[0] if is_marian else write_bart_tokenizer(theirs)
        write((random_marian if is_marian else random_bart)(size), theirs, no_repeat_ngram_size=2, num_beams=3)
        code, out, err = s2s_cli("import", kind, theirs, tmp_path / f"my-{kind}")
        assert (code, err) == (0, "")
        assert out.startswith(f"{tmp_path / f'my-{kind}'}: 0.")
        text = "\n".join(LINES)
        found = [s2s_cli("translate", "--model", m, stdin=text) for m in (theirs, tmp_path / f"my-{kind}")]
        assert found[0] == found[1]
        assert found[0][0] == 0
        assert found[0][1].count("\n") == len(LINES)
    code, _, err = s2s_cli("import", "bart", tmp_path / "marian", tmp_path / "wrong")
    assert (code, (tmp_path / "wrong").exists()) == (1, False)
    assert "model_type: 'marian', expected 'bart'" in err


def test_a_terminal_is_shown_a_bar_and_the_lines_stay_clean(
    model: Path, expected: list[str], tmp_path: Path, s2s_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"{line}\n" for line in LINES))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # to rich, standard error is a terminal
    code, out, err = s2s_cli("translate", "--model", model, text)
    assert (code, out.split("\n")) == (0, [*expected, ""])
    assert f"{len(LINES)}/{len(LINES)}" in err
    _, _, err = s2s_cli("translate", "--model", model, text, tmp_path / "none", "--output", tmp_path / "out")
    assert "cannot read it: No such file" in err
    assert lines(tmp_path / "out") == [*expected, ""]
    code, out, err = s2s_cli("translate", "--model", model, stdin=b"\xff\na bird\n")  # no length, and an error
    assert (code, out.count("\n")) == (1, 2)
    assert "standard input:1: not UTF-8" in err
    assert "2/?" in err


def test_an_interrupt_leaves_no_file(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2s.cli.main", "translate", "--model", model, "-", "--output", tmp_path / "out"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background job starts with it ignored
    with subprocess.Popen([*map(str, command), "--batch-size", "1"], preexec_fn=heed, **pipes) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"a bird\n" * 200)
        process.stdin.flush()
        while not any(tmp_path.glob(".out.*.part")):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []
