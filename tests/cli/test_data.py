from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s2s.tokenizers import JointTokenizer, train_tokenizer
from s2s.tokenizers.character import CharacterTokenizer

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kaldi(tmp_path: Path, data_root: Path) -> Path:
    """Ten digits, 8 kHz, as a Kaldi directory."""
    with (data_root / "fsdd" / "metadata.tsv").open(encoding="utf-8") as file:
        rows = sorted(list(csv.DictReader(file, delimiter="\t"))[::300], key=lambda row: row["id"])
    folder = tmp_path / "train"
    folder.mkdir()
    for name, value in {
        "wav.scp": lambda row: data_root / "fsdd" / row["path"],
        "text": lambda row: row["text"],
        "utt2spk": lambda row: row["speaker"],
    }.items():
        (folder / name).write_text("".join(f"{row['id']} {value(row)}\n" for row in rows))
    return folder


@pytest.fixture
def broken(kaldi: Path, tmp_path: Path) -> Path:
    """The same with a recording cut short in line 2, none in line 3 and no words in line 4."""
    lines = (kaldi / "wav.scp").read_text().splitlines()
    key, path = lines[1].split()
    (tmp_path / "short.flac").write_bytes(Path(path).read_bytes()[:-300])
    lines[1] = f"{key} {tmp_path}/short.flac"
    lines[2] = f"{lines[2].split()[0]} {tmp_path}/none.flac"
    (kaldi / "wav.scp").write_text("\n".join(lines) + "\n")
    words = (kaldi / "text").read_text().splitlines()
    words[3] = words[3].split()[0]
    (kaldi / "text").write_text("\n".join(words) + "\n")
    return kaldi


def test_a_sound_corpus_is_summed_up(kaldi: Path, s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("data", "validate", kaldi)
    assert (code, out) == (0, "10 utterances, 0.00 hours, no problems\n")


def test_every_problem_is_listed_with_its_line(broken: Path, s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("data", "validate", broken)
    assert code == 1
    lines = out.splitlines()
    for line, start, kind in [
        (lines[0], f"{broken}/wav.scp:3: ", "[missing_audio]"),
        (lines[1], f"{broken}/text:4: ", "[no_text]"),
        (lines[2], f"{broken}/wav.scp:2: ", "[bad_audio]"),
    ]:
        assert line.startswith(start)
        assert line.endswith(kind)
    assert lines[3:] == ["3 problems: 1 missing_audio, 1 bad_audio, 1 no_text"]


def test_headers_alone_do_not_show_a_flac_cut_short(broken: Path, s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("data", "validate", broken, "--skip-audio")
    assert code == 1
    assert "2 problems: 1 missing_audio, 1 no_text" in out


def test_texts_too_long_for_ctc_and_other_rates_are_found(kaldi: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    words = [line.split()[1] for line in (kaldi / "text").read_text().splitlines()]
    CharacterTokenizer.train(words).save(tmp_path / "chars")
    check = ("data", "validate", kaldi, "--skip-audio")
    assert s2s_cli(*check, "--tokenizer", tmp_path / "chars", "--frames-per-second", "40")[0] == 0
    code, out, _ = s2s_cli(*check, "--tokenizer", tmp_path / "chars", "--frames-per-second", "1")
    assert code == 1
    assert "10 too_long_text" in out
    assert "10 other_rate" in s2s_cli(*check, "--sampling-rate", "16000")[1]


def test_stats_show_hours_and_speakers(kaldi: Path, s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("data", "stats", kaldi)
    assert code == 0
    cells = [line.split() for line in out.splitlines()]
    assert ["utterances", "10"] in cells
    assert ["sampling", "rates", "8000", "Hz", "(10)"] in cells


def test_stats_of_buckets_show_and_draw_the_padding(kaldi: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    words = [line.split()[1] for line in (kaldi / "text").read_text().splitlines()]
    CharacterTokenizer.train(words).save(tmp_path / "chars")
    buckets = ("data", "stats", "--buckets", kaldi, "--max-batch", "2")
    code, out, err = s2s_cli(*buckets, "--tokenizer", tmp_path / "chars", "--draw", tmp_path / "padding.png")
    assert code == 0, err
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["sampler", "random", "one-dimensional", "two-dimensional"]
    assert (tmp_path / "padding.png").read_bytes().startswith(b"\x89PNG")
    assert "give --tokenizer" in s2s_cli(*buckets)[2]
    assert "are for --buckets" in s2s_cli("data", "stats", kaldi, "--max-batch", "2")[2]
    assert "is of one side" in s2s_cli(*buckets, "--tokenizer", tmp_path / "chars", "--pair", "en-de")[2]


def test_stats_of_buckets_take_parallel_text(tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "text").mkdir()
    for language in ("en", "de"):
        lines = ["a" * (1 + number % 13) for number in range(60)]
        (tmp_path / "text" / f"text.{language}").write_text("".join(f"{line}\n" for line in lines))
    JointTokenizer(train_tokenizer("char", ["abc"]), ["de", "en"]).save(tmp_path / "joint")
    buckets = ("data", "stats", "--buckets", tmp_path / "text", "--pair", "en-de", "--max-batch", "60")
    code, out, err = s2s_cli(*buckets, "--tokenizer", tmp_path / "joint")
    assert code == 0, err
    assert "two-dimensional" in out


def test_shards_are_written_and_read_as_a_corpus(kaldi: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    code, out, err = s2s_cli("data", "shar", kaldi, "--out", tmp_path / "shards", "--shard-size", "4")
    assert code == 0, err
    assert out == f"10 utterances in 3 shards: data.train=[shar:{tmp_path / 'shards'}]\n"
    code, out, err = s2s_cli("data", "stats", f"shar:{tmp_path / 'shards'}")
    assert code == 0, err
    assert ["utterances", "10"] in [line.split() for line in out.splitlines()]
    assert "there already" in s2s_cli("data", "shar", kaldi, "--out", tmp_path / "shards")[2]


def test_stats_count_problems_on_stderr(broken: Path, s2s_cli: Cli) -> None:
    code, _, err = s2s_cli("data", "stats", broken)
    assert code == 0
    assert "1 missing_audio, 1 no_text" in err


def test_a_conversion_and_back_gives_the_same_files(kaldi: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    cuts, back = tmp_path / "cuts.jsonl.gz", tmp_path / "back"
    assert s2s_cli("data", "convert", kaldi, cuts)[0] == 0
    assert s2s_cli("data", "convert", cuts, back)[0] == 0
    for name in ("wav.scp", "text", "utt2spk"):
        assert (back / name).read_text() == (kaldi / name).read_text()
    assert s2s_cli("data", "validate", cuts, back / "..", "--skip-audio")[0] == 1  # a folder without wav.scp


def test_nothing_is_overwritten_without_force(kaldi: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    cuts = tmp_path / "cuts.jsonl.gz"
    cuts.write_text("mine")
    code, _, err = s2s_cli("data", "convert", kaldi, cuts)
    assert (code, cuts.read_text()) == (1, "mine")
    assert "--force overwrites it" in err
    assert s2s_cli("data", "convert", kaldi, cuts, "--force")[0] == 0
    assert s2s_cli("data", "validate", cuts)[0] == 0
    assert s2s_cli("data", "convert", cuts, kaldi, "--force")[0] == 0
    assert s2s_cli("data", "validate", kaldi)[0] == 0


def test_a_corpus_with_problems_is_converted_only_when_told_to_skip_them(
    broken: Path, tmp_path: Path, s2s_cli: Cli
) -> None:
    code, _, err = s2s_cli("data", "convert", broken, tmp_path / "cuts.jsonl")
    assert code == 1
    assert "wav.scp:3" in err
    assert "--skip missing_audio" in err
    assert not (tmp_path / "cuts.jsonl").exists()
    code, out, _ = s2s_cli("data", "convert", broken, tmp_path / "cuts.jsonl", "--skip", "missing_audio")
    assert code == 0
    assert "9 utterances, 1 left out (1 missing_audio)" in out


@pytest.mark.parametrize(("source", "target"), [("a.jsonl.gz", "b.jsonl"), ("a", "b"), ("a", "b.csv")])
def test_a_direction_that_makes_no_sense_is_refused(source: str, target: str, s2s_cli: Cli) -> None:
    code, _, err = s2s_cli("data", "convert", source, target)
    assert code == 1
    assert "expected a Kaldi data directory and a name in .jsonl.gz" in err


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom s2s.cli.data import app\n"
        "print(CliRunner().invoke(app, ['validate', '--help']).output)\n"
        "print(*{'torch', 'lhotse', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "DATA..." in done.stdout
    assert done.stderr.strip() == ""
