from __future__ import annotations

from pathlib import Path

import pytest

from s2s.data.corpus import load_corpus
from s2s.data.jsonl import write_cuts
from s2s.errors import UserError


def test_several_corpora_are_joined_in_order(kaldi: Path, folder, tmp_path: Path, yesno) -> None:
    other = folder("other", wav_scp=[f"{row['id']} {row['path']}" for row in yesno] + ["x /none.wav"])
    first, second = load_corpus(kaldi), load_corpus(other)
    write_cuts(second.cuts, tmp_path / "other.jsonl.gz")
    for path in (other, tmp_path / "other.jsonl.gz"):
        both = load_corpus([kaldi, path])
        assert [cut.id for cut in both.cuts] == [cut.id for cut in first.cuts] + [cut.id for cut in second.cuts]
        assert both.sources == (kaldi, path)
    assert [problem.utterance for problem in second.problems] == ["x"]


def test_an_id_in_two_corpora_is_refused_with_both_lines(kaldi: Path, folder, digits) -> None:
    other = folder("other", wav_scp=[f"{digits[5]['id']} {digits[5]['path']}"])
    with pytest.raises(UserError, match=r"train/wav.scp:6 and .*other/wav.scp:1"):
        load_corpus([kaldi, other])


@pytest.mark.parametrize("name", ["", "none", "notes.txt", "none.jsonl.gz"])
def test_anything_else_is_refused_with_what_is_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"no such file|expected a Kaldi data directory .* Lhotse cuts"):
        load_corpus(tmp_path / name)
