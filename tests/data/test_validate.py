from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from s2s.data.corpus import Corpus, load_corpus
from s2s.data.problems import Problem
from s2s.data.validate import ctc_problems, decodable_files, drop, duration_limit_problems, validate
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer


@pytest.fixture
def corpus(kaldi: Path) -> Corpus:
    return load_corpus(kaldi)


def test_a_sound_corpus_has_no_problems(corpus: Corpus) -> None:
    assert validate(corpus, True, sampling_rate=8000, require_text=True) == []


def test_only_decoding_finds_a_flac_cut_short(folder, digits, tmp_path: Path) -> None:
    flac = tmp_path / "b.flac"
    flac.write_bytes(Path(digits[1]["path"]).read_bytes()[:-300])
    made = folder(wav_scp=[f"a {digits[0]['path']}", f"b {flac}"], segments=["u a 0 -1", "v b 0 0.1", "w b 0.1 -1"])
    corpus = load_corpus(made)
    read: list[None] = []
    assert validate(corpus, False) == []
    problems = validate(corpus, True, advance=lambda: read.append(None))
    assert [(p.kind, p.utterance, p.where) for p in problems] == [
        ("bad_audio", "v", f"{made}/segments:2"),
        ("bad_audio", "w", f"{made}/segments:3"),
    ]
    assert str(flac) in problems[0].message
    assert len(read) == len(decodable_files(corpus.cuts)) == 2


def test_another_sampling_rate_and_missing_text_are_found_when_asked_for(folder, digits) -> None:
    corpus = load_corpus(folder(wav_scp=[f"a {digits[0]['path']}"]))
    assert validate(corpus, False) == []
    problems = validate(corpus, False, sampling_rate=16000, require_text=True)
    assert {problem.kind for problem in problems} == {"other_rate", "no_text"}


def test_declared_durations_are_compared(kaldi: Path, digits) -> None:
    (kaldi / "utt2dur").write_text(f"{digits[0]['id']} 9.5\n")
    problems = validate(load_corpus(kaldi), False)
    assert [(p.kind, p.where) for p in problems] == [("bad_audio", f"{kaldi}/utt2dur:1")]


def test_durations_outside_the_limits_are_found(corpus: Corpus) -> None:
    seconds = sorted(cut.duration for cut in corpus.cuts)
    problems = duration_limit_problems(corpus.cuts, seconds[2], seconds[-2])
    assert sorted(problem.kind for problem in problems) == ["too_long", "too_short", "too_short"]


def test_ctc_needs_a_frame_a_token_and_one_between_equal_neighbours(corpus: Corpus) -> None:
    tokenizer = CharacterTokenizer.train([cut.supervisions[0].text for cut in corpus.cuts])
    for frames in (4, 5, 6):
        expected = []
        for cut in corpus.cuts:  # spelled out: the shortest path is the word, a blank within each double letter
            tokens = tokenizer.encode(cut.supervisions[0].text)
            path = [len(list(group)) * 2 - 1 for _, group in itertools.groupby(tokens)]
            if sum(path) > frames:
                expected.append(cut.id)
        problems = ctc_problems(corpus.cuts, tokenizer, lambda seconds, frames=frames: frames)
        assert [problem.utterance for problem in problems] == expected
        assert {problem.kind for problem in problems} <= {"too_long_text"}
    assert any("three" in cut.supervisions[0].text for cut in corpus.cuts)  # five letters, six frames


def test_skipped_kinds_are_dropped_and_counted(corpus: Corpus) -> None:
    first, second, *rest = (cut.id for cut in corpus.cuts)
    problems = [
        Problem("too_short", first, "x:1", "short"),
        Problem("no_text", first, "x:1", "none"),
        Problem("no_text", second, "x:2", "none"),
        Problem("missing_audio", "absent", "x:3", "none"),
    ]
    cuts, line = drop(corpus, problems, ["no_text", "too_short", "missing_audio"])
    assert [cut.id for cut in cuts] == rest
    assert line.endswith("22 utterances, 3 left out (1 missing_audio, 2 no_text, 1 too_short)")
    assert drop(corpus, [], []) == (corpus.cuts, "")


def test_other_kinds_stop_with_their_lines_and_how_to_skip_them(corpus: Corpus) -> None:
    problems = [Problem("no_text", "u", "text:7", "no words"), Problem("too_long", "v", "wav.scp:8", "long")]
    with pytest.raises(UserError, match=r"(?s)text:7: u: no words.*data\.skip=\[no_text,too_long\]") as caught:
        drop(corpus, problems, ["too_long"])
    assert "wav.scp:8" not in str(caught.value)


def test_an_unknown_kind_and_an_empty_rest_are_refused(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="no kind of problem"):
        drop(corpus, [], ["no_txt"])
    with pytest.raises(UserError, match="no utterances left"):
        drop(corpus, [Problem("no_text", cut.id, "x", "none") for cut in corpus.cuts], ["no_text"])
