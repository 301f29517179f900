from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from lhotse.kaldi import load_kaldi_data_dir

from s2s.data.cuts import origin, speaker, text
from s2s.data.kaldi import duration_problems, read_kaldi, write_kaldi
from s2s.errors import UserError

Rows = list[dict[str, str]]


def test_utterances_come_in_file_order_with_their_words_and_lines(kaldi: Path, digits: Rows) -> None:
    cuts, problems = read_kaldi(kaldi)
    assert problems == []
    assert [(cut.id, text(cut), speaker(cut)) for cut in cuts] == [
        (row["id"], row["text"], row["speaker"]) for row in digits
    ]
    assert [origin(cut) for cut in cuts][:2] == [f"{kaldi}/wav.scp:1", f"{kaldi}/wav.scp:2"]
    assert [cut.duration for cut in cuts] == pytest.approx([float(row["duration"]) for row in digits], abs=1e-3)


def test_segments_are_those_that_lhotse_reads(folder, yesno: Rows) -> None:
    made = folder(
        wav_scp=[f"{row['id']} {row['path']}" for row in yesno],
        segments=[f"{row['id']}-{i} {row['id']} {i} {i + 1.25}" for row in yesno for i in range(3)],
        text=[f"{row['id']}-{i} {row['text'].split()[i]}" for row in yesno for i in range(3)],
        utt2spk=[f"{row['id']}-{i} he" for row in yesno for i in range(3)],
    )
    cuts, problems = read_kaldi(made)
    recordings, supervisions, _ = load_kaldi_data_dir(made, sampling_rate=8000)
    theirs = CutSet.from_manifests(recordings=recordings, supervisions=supervisions).trim_to_supervisions(
        keep_overlapping=False
    )
    expected = {cut.supervisions[0].id: cut for cut in theirs}
    assert problems == []
    assert len(cuts) == len(expected) == 9
    for cut in cuts:
        other = expected[cut.id]
        assert (cut.start, cut.duration) == (other.start, other.duration)
        assert (text(cut), cut.recording.id) == (other.supervisions[0].text, other.recording.id)
        np.testing.assert_array_equal(cut.load_audio(), other.load_audio())


def test_missing_and_bad_audio_is_left_out_and_named(folder, tmp_path: Path, digits: Rows) -> None:
    empty = tmp_path / "empty.flac"
    empty.touch()
    noise = tmp_path / "noise.flac"
    noise.write_bytes(Path(digits[0]["path"]).read_bytes()[4:])
    made = folder(wav_scp=[f"a {digits[0]['path']}", f"b {tmp_path}/none.flac", f"c {empty}", f"d {noise}"])
    cuts, problems = read_kaldi(made)
    assert [cut.id for cut in cuts] == ["a"]
    assert [(problem.kind, problem.utterance, problem.where) for problem in problems] == [
        ("missing_audio", "b", f"{made}/wav.scp:2"),
        ("bad_audio", "c", f"{made}/wav.scp:3"),
        ("bad_audio", "d", f"{made}/wav.scp:4"),
    ]
    assert "none.flac" in problems[0].message


def test_an_utterance_without_words_stays_with_its_problem(folder, digits: Rows) -> None:
    scp = [f"{row['id']} {row['path']}" for row in digits[:3]]
    first, second, third = (row["id"] for row in digits[:3])
    cuts, problems = read_kaldi(made := folder(wav_scp=scp, text=[f"{first} one", f"{second}"]))
    assert [text(cut) for cut in cuts] == ["one", None, None]
    assert [(p.kind, p.utterance, p.where) for p in problems] == [
        ("no_text", second, f"{made}/text:2"),
        ("no_text", third, f"{made}/wav.scp:3"),
    ]


def test_no_text_file_at_all_is_no_problem(folder, digits: Rows) -> None:
    cuts, problems = read_kaldi(folder(wav_scp=[f"a {digits[0]['path']}"]))
    assert problems == []
    assert [text(cut) for cut in cuts] == [None]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sph2pipe -f wav a.sph |", "is a command; s2s runs none. Run it once into an audio file"),
        ("sox a.flac -t wav -", "is a command"),
        ("| sox a.flac", "is a command"),
        ("audio.ark:1234", "is not an audio file"),
        ("", "expected `id path`"),
    ],
)
def test_what_is_no_plain_path_is_refused_with_its_line(folder, value: str, message: str) -> None:
    made = folder(wav_scp=["a /some.wav", f"b {value}"])
    with pytest.raises(UserError, match=re.escape(f"{made}/wav.scp:2: ") + ".*" + re.escape(message)):
        read_kaldi(made)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"text": ["a x", "c y"]}, "text:2: utterance 'c' is in no other file"),
        ({"text": ["a x", "b y", "a z"]}, "text:3: 'a' stands already in"),
        ({"utt2spk": ["z s"]}, "utt2spk:1: utterance 'z'"),
        ({"segments": ["u a 0 1", "v q 0 1"]}, "segments:2: recording 'q' is not in wav.scp"),
        ({"segments": ["u a 0"]}, "segments:1: expected `utterance recording start end"),
        ({"segments": ["u a 0 one"]}, "segments:1: the end is 'one'; expected a number"),
        ({"segments": ["u a 2 1"]}, "segments:1: a segment from 2 to 1 s"),
        ({"segments": ["u a nan 1"]}, "segments:1: the start is 'nan'"),
        ({"segments": ["u a 0 1 left"]}, "segments:1: channel 'left'"),
    ],
)
def test_malformed_lines_are_refused_by_file_and_line(folder, files: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_kaldi(folder(wav_scp=["a /a.wav", "b /b.wav"], **files))


def test_text_that_is_not_utf8_is_refused_by_line(kaldi: Path) -> None:
    lines = (kaldi / "text").read_bytes().split(b"\n")
    lines[2] += b" caf\xe9"
    (kaldi / "text").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=r"text:3: not UTF-8"):
        read_kaldi(kaldi)


def test_only_newlines_end_lines_and_only_blanks_and_tabs_end_ids(folder, digits: Rows) -> None:
    words = "un\u00a0deux\u2028trois\u3000quatre"
    path = digits[0]["path"]
    made = folder(wav_scp=[f"a\t{path}\r"], text=[f"a {words}\r"])
    assert [text(cut) for cut in read_kaldi(made)[0]] == [words]


def test_relative_paths_start_here_and_else_in_the_folder(
    folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Rows
) -> None:
    made = folder(wav_scp=["a here.flac", "b there.flac"])
    os.symlink(digits[0]["path"], tmp_path / "here.flac")
    os.symlink(digits[1]["path"], made / "there.flac")
    monkeypatch.chdir(tmp_path)
    cuts, problems = read_kaldi(made)
    assert problems == []
    assert [cut.recording.sources[0].source for cut in cuts] == ["here.flac", str(made / "there.flac")]


def test_a_segment_past_the_end_is_a_problem_but_for_rounding(folder, yesno: Rows) -> None:
    path, end = yesno[0]["path"], soundfile.info(yesno[0]["path"]).duration
    made = folder(
        wav_scp=[f"r {path}"],
        segments=["a r 0 1", f"b r 1 {end + 0.004}", f"c r 1 {end + 0.5}", "d r 1 -1", "e r 0 1 1"],
    )
    cuts, problems = read_kaldi(made)
    assert [cut.id for cut in cuts] == ["a", "b", "d"]
    assert [cut.start + cut.duration for cut in cuts] == pytest.approx([1, end, end])
    assert [(p.kind, p.utterance, p.where) for p in problems] == [
        ("bad_audio", "c", f"{made}/segments:3"),
        ("bad_audio", "e", f"{made}/segments:5"),
    ]


def described(cuts: CutSet) -> list[tuple]:
    return [
        (cut.id, cut.recording.id, cut.start, cut.duration, cut.channel, text(cut), speaker(cut), cut.sampling_rate)
        for cut in sorted(cuts, key=lambda cut: cut.id.encode())
    ]


def test_what_is_written_reads_back_the_same(kaldi: Path, folder, tmp_path: Path, yesno: Rows) -> None:
    segmented = folder(
        "segmented",
        wav_scp=[f"{row['id']} {row['path']}" for row in yesno],
        segments=[f"{row['id']}-{i} {row['id']} {i / 3:.4f} {i + 1.12345}" for row in yesno for i in range(3)],
        text=[f"{row['id']}-1 כן" for row in yesno],
    )
    for source in (kaldi, segmented):
        cuts, _ = read_kaldi(source)
        write_kaldi(cuts, tmp_path / "copy" / source.name)
        again, _ = read_kaldi(tmp_path / "copy" / source.name)
        assert described(again) == described(cuts)
        assert (tmp_path / "copy" / source.name / "segments").exists() == (source is segmented)


def test_channels_are_kept_and_written(folder, tmp_path: Path, digits: Rows) -> None:
    samples, rate = soundfile.read(digits[0]["path"])
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([samples, samples[::-1]], axis=1), rate)
    made = folder(wav_scp=[f"r {stereo}"], segments=["all r 0 -1", "left r 0 0.2 0", "right r 0 0.2 1"])
    cuts, _ = read_kaldi(made)
    assert [cut.channel for cut in cuts] == [[0, 1], 0, 1]
    write_kaldi(cuts, tmp_path / "copy")
    assert described(read_kaldi(tmp_path / "copy")[0]) == described(cuts)


def test_a_perturbed_cut_cannot_be_written_and_leaves_nothing(kaldi: Path, tmp_path: Path) -> None:
    cuts, _ = read_kaldi(kaldi)
    with pytest.raises(UserError, match=r"wav.scp:1: .*unperturbed"):
        write_kaldi(cuts.perturb_speed(0.9), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_anything_else_is_not_replaced(kaldi: Path, tmp_path: Path) -> None:
    cuts, _ = read_kaldi(kaldi)
    (kaldi / "speech.wav").touch()
    with pytest.raises(UserError, match=r"speech\.wav"):
        write_kaldi(cuts, kaldi)
    assert (kaldi / "speech.wav").exists()


def test_utt2dur_is_compared_with_the_audio(kaldi: Path, digits: Rows) -> None:
    seconds = [float(row["duration"]) for row in digits]
    seconds[3] += 0.5
    lines = [f"{row['id']} {value}\n" for row, value in zip(digits, seconds, strict=True)]
    (kaldi / "utt2dur").write_text("".join(lines))
    problems = duration_problems(kaldi, read_kaldi(kaldi)[0])
    assert [(p.utterance, p.where) for p in problems] == [(digits[3]["id"], f"{kaldi}/utt2dur:4")]
