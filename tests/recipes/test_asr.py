"""The shared recipe: a recipe for one's own data as the README tells, and its options."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from recipe_tree import ROOT, copy_recipe, run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    copy_recipe("fsdd", tmp_path)
    return tmp_path


def test_a_recipe_for_ones_own_data_runs_as_the_readme_tells(tree: Path, digits: Path, tiny: list[str]) -> None:
    mine = tree / "egs/mine/asr"
    (mine / "conf").mkdir(parents=True)
    (mine / "local").mkdir()
    text = (tree / "egs/fsdd/asr/run.sh").read_text()
    text = re.sub(r"export data=\S+ exp=\S+ config=\S+", "export data=data exp=exp config=mine", text)
    (mine / "run.sh").write_text(text)
    (mine / "run.sh").chmod(0o755)
    shutil.copytree(digits, mine / "data", ignore=shutil.ignore_patterns("tokenizer"))
    shutil.copytree(digits / "dev", mine / "data" / "test")
    readme = (ROOT / "README.md").read_text()
    yaml = re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert yaml is not None
    (mine / "conf" / "mine.yaml").write_text(re.sub(r"^   ", "", yaml[1], flags=re.MULTILINE))

    smaller = [option for option in tiny if option.startswith(("features", "spec", "model", "data.m", "training.acc"))]
    options = ["--stage", "1", *smaller, "training.max_epochs=2", "decoding.beam_size=4"]
    done = run(mine / "run.sh", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("stage ")] == [
        "stage 1: tokenizer",
        "stage 2: train",
        "stage 3: average",
        "stage 4: decode",
        "stage 5: score",
        "stage 6: bundle",
    ]
    for mode in ("ctc_greedy", "greedy", "joint"):
        assert (mine / f"exp/decode/test/{mode}/score.txt").read_text().startswith("%WER ")
    assert (mine / "exp/bundle/README.md").read_text().count("%WER") == 3

    again = run(mine / "run.sh", *options)
    assert again.returncode == 0
    assert again.stdout.count("is done already") == 6

    every_mode = run(mine / "run.sh", "--stage", "4", "--stop-stage", "5", "--force", "--decodings", "all")
    assert every_mode.returncode == 0, every_mode.stderr
    table = (mine / "exp/decode/test/table.md").read_text()
    assert table in every_mode.stdout
    modes = sorted(line.split()[1] for line in table.splitlines()[2:])
    others = {"whisper", "translation", "monotonic", "segmental"}  # modes of other models
    assert modes == sorted({path.stem for path in (ROOT / "s2s/conf/decoding").glob("*.yaml")} - others)

    redone = run(mine / "run.sh", "--stage", "5", "--stop-stage", "5", "--force")
    assert redone.returncode == 0
    assert "stage 5: score" in redone.stdout
    assert "stage 6: bundle\n" in run(mine / "run.sh", *options).stdout  # what follows a stage done again is not done


def test_help_names_every_stage_and_option(tree: Path) -> None:
    done = run(tree / "egs/fsdd/asr/run.sh", "--help")
    assert done.returncode == 0
    for word in ("0 data", "6 bundle", "--stage", "--stop-stage", "--nj", "--ngpu", "--data-root", "KEY=VALUE"):
        assert word in done.stdout
    assert not (tree / "egs/fsdd/asr/exp").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stages", "1"], "'--stages' is neither an option nor KEY=VALUE"),
        (["--stage"], "--stage needs a value"),
        (["--stage", "two"], "--stage two: expected a whole number"),
        (["--split", "other"], "expected official or unseen"),
        (["--stage", "0", "--split"], "expected official or unseen"),
    ],
)
def test_a_wrong_option_is_named(tree: Path, options: list[str], message: str) -> None:
    done = run(tree / "egs/fsdd/asr/run.sh", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_failing_stage_stops_the_recipe_and_is_not_marked_done(tree: Path, tmp_path: Path) -> None:
    done = run(tree / "egs/fsdd/asr/run.sh", "--data-root", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "holds no fsdd/recordings" in done.stderr
    assert "stage 1" not in done.stdout
    assert not (tree / "egs/fsdd/asr/exp/official/.done/0").exists()
    assert not (tree / "egs/fsdd/asr/data/official").exists()


def test_digit_strings_are_the_same_everywhere(tree: Path, data_root: Path) -> None:
    recipe = tree / "egs/fsdd/asr"
    for split in ("official", "unseen"):
        done = run(recipe / "run.sh", "--stop-stage", "0", "--data-root", str(data_root), "--split", split)
        assert done.returncode == 0, done.stderr  # it compares its strings with the checksums it ships
        clips = {part: speakers_and_clips(recipe / f"data/{split}/{part}") for part in ("train", "dev", "test")}
        assert not clips["train"] & clips["test"]
        assert not clips["train"] & clips["dev"]
        assert not clips["dev"] & clips["test"]
        speakers = {part: {clip.split("_")[1] for clip in found} for part, found in clips.items()}
        if split == "unseen":
            assert speakers["test"] == {"lucas", "theo"}
            assert not speakers["test"] & (speakers["train"] | speakers["dev"])
        else:
            assert len(speakers["test"]) == len(speakers["train"]) == 6
            assert {int(clip.split("_")[2]) for clip in clips["test"]} == set(range(5))  # the official split


def speakers_and_clips(folder: Path) -> set[str]:
    rows = (folder / "strings.tsv").read_text().splitlines()[1:]
    return {clip for row in rows for clip in row.split("\t")[1].split()}


def test_recordings_that_were_changed_are_refused(tree: Path, data_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "fsdd"
    shutil.copytree(data_root / "fsdd", copy)
    shutil.copy(copy / "recordings/0_theo_0.flac", copy / "recordings/7_theo_3.flac")
    done = run(tree / "egs/fsdd/asr/run.sh", "--stop-stage", "0", "--data-root", str(tmp_path / "copy"))
    assert done.returncode == 1
    assert "7_theo_*: the samples differ" in done.stderr
    (copy / "recordings/7_theo_3.flac").unlink()
    done = run(tree / "egs/fsdd/asr/run.sh", "--stop-stage", "0", "--data-root", str(tmp_path / "copy"))
    assert "7_theo_3.wav: no such file" in done.stderr
