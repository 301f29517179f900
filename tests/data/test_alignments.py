"""Files that say when tokens end: written, read, put into batches, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lhotse import CutSet

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data.alignments import TokenEnds, read_token_ends, token_ends, with_token_ends, write_token_ends
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer

FBANK = Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40))


@pytest.fixture
def cuts(kaldi: Path) -> CutSet:
    return load_corpus(kaldi).cuts.subset(first=4)


@pytest.fixture
def tokenizer(digits) -> CharacterTokenizer:
    return CharacterTokenizer.train([row["text"] for row in digits])


@pytest.fixture
def aligned(cuts: CutSet, tokenizer: CharacterTokenizer) -> dict[str, TokenEnds]:
    """A token ends every 30 ms."""
    found = {}
    for cut in cuts:
        pieces = tokenizer.pieces(tokenizer.encode(cut.supervisions[0].text))
        found[cut.id] = TokenEnds(pieces, [0.03 * (u + 1) for u in range(len(pieces))])
    return found


def test_what_is_written_is_read(aligned: dict[str, TokenEnds], tmp_path: Path) -> None:
    write_token_ends(
        tmp_path / "ends.jsonl", {**aligned, "é": TokenEnds(["ä", "▁"], [1 / 3, 0.5]), "none": TokenEnds([], [])}
    )
    found = read_token_ends(tmp_path / "ends.jsonl")
    assert list(found) == [*aligned, "é", "none"]
    for name, each in aligned.items():
        assert list(found[name].pieces) == list(each.pieces)
        assert found[name].ends == pytest.approx(each.ends)
    assert found["é"].where.endswith("ends.jsonl:5")
    assert found["none"].ends == ()


@pytest.mark.parametrize("factor", [1.0, 0.9, 1.1])
def test_a_batch_has_the_frame_after_each_token_at_any_speed(
    cuts: CutSet, tokenizer: CharacterTokenizer, aligned: dict[str, TokenEnds], tmp_path: Path, factor: float
) -> None:
    write_token_ends(tmp_path / "ends.jsonl", aligned)
    known = with_token_ends(cuts, tmp_path / "ends.jsonl", tokenizer)
    if factor != 1.0:
        known = CutSet.from_cuts(cut.perturb_speed(factor, affix_id=False) for cut in known)
    batch = SpeechDataset(tokenizer, FBANK)[known].to("cpu")
    assert batch.target_ends is not None
    assert batch.target_ends.dtype == torch.int64
    assert batch.target_ends.shape == batch.target.shape
    for row, count in enumerate(batch.target_lengths.tolist()):
        expected = [3 * (u + 1) / factor for u in range(count)]
        assert batch.target_ends[row, :count].tolist() == pytest.approx(expected, abs=0.51)
        assert not batch.target_ends[row, count:].any()


def test_where_one_is_not_known_a_batch_has_none(
    cuts: CutSet, tokenizer: CharacterTokenizer, aligned: dict[str, TokenEnds], tmp_path: Path
) -> None:
    write_token_ends(tmp_path / "ends.jsonl", aligned)
    known = list(with_token_ends(cuts, tmp_path / "ends.jsonl", tokenizer))
    assert [token_ends(cut) for cut in cuts] == [None] * 4
    assert SpeechDataset(tokenizer, FBANK)[CutSet.from_cuts([known[0], list(cuts)[1]])].target_ends is None
    assert SpeechDataset(None, FBANK)[CutSet.from_cuts(known)].target_ends is None
    assert SpeechDataset(tokenizer, FBANK)[cuts].target_ends is None


def test_an_utterance_that_is_missing_or_has_other_tokens_is_named(
    cuts: CutSet, tokenizer: CharacterTokenizer, aligned: dict[str, TokenEnds], tmp_path: Path
) -> None:
    path, (first, *_) = tmp_path / "ends.jsonl", list(cuts)
    write_token_ends(path, {name: each for name, each in aligned.items() if name != first.id})
    with pytest.raises(
        UserError, match=rf"ends\.jsonl: utterance '{first.id}' \(.*wav\.scp:1\) is not in it; align all"
    ):
        with_token_ends(cuts, path, tokenizer)
    write_token_ends(path, {**aligned, first.id: TokenEnds(["x"], [0.1])})
    with pytest.raises(UserError, match=rf"ends\.jsonl:1: the tokens of utterance '{first.id}' are x, but by its text"):
        with_token_ends(cuts, path, tokenizer)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "tokens": ["x"], "ends": [0.5, 0.6]}', r"ends\.jsonl:1: 1 tokens, but 2 ends"),
        ('{"id": "a", "tokens": ["x", "y"], "ends": [0.5, 0.4]}', r"ends\.jsonl:1: 'ends' falls from 0\.5 to 0\.4"),
        ('{"id": "a", "tokens": [1], "ends": [0.5]}', r"ends\.jsonl:1: 'tokens' is \[1\]; expected a list of strings"),
        ('{"id": "a", "ends": [0.5]}', r"ends\.jsonl:1: no 'tokens'"),
        ("{", r"ends\.jsonl:1: not JSON"),
        ("", r"no lines in it"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "ends.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        read_token_ends(tmp_path / "ends.jsonl")


def test_an_utterance_stands_in_a_file_once(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", "tokens": [], "ends": []})
    (tmp_path / "ends.jsonl").write_text(f"{line}\n\n{line}\n")
    with pytest.raises(UserError, match=r"ends\.jsonl:3: utterance 'a' stands already in .*ends\.jsonl:1"):
        read_token_ends(tmp_path / "ends.jsonl")
