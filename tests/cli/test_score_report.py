from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Cli = Callable[..., tuple[int, str, str]]

RATE = 24000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A Kaldi data directory of three utterances, two of them parts of one recording, and two systems' outputs."""
    chance = np.random.default_rng(0)
    for name, seconds in (("long", 2.0), ("c", 0.5)):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * chance.standard_normal(int(seconds * RATE)), RATE)
    files = {
        "wav.scp": f"long {tmp_path}/long.wav\nc {tmp_path}/c.wav\n",
        "segments": "a long 0.25 1.25\nb long 1.5 2.0\nc c 0 -1\n",
        "text": "a five nine one\nb five\nc one two\n",
        "utt2spk": "a anna\nb bo\nc anna\n",
        "first": "a five five one\nb five\nc one two\n",
        "second": "a five nine one\nb nine\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def content(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def clip(page: Path, place: int) -> tuple[np.ndarray, int]:
    found = re.search(rf'<script type="text/plain" id="audio-{place}">(.*?)</script>', page.read_text())
    assert found is not None
    return soundfile.read(io.BytesIO(base64.b64decode(found[1])))


def test_a_page_of_one_system(corpus: Path, s2s_cli: Cli) -> None:
    page = corpus / "new" / "report.html"
    code, out, err = s2s_cli("score", "report", corpus / "text", corpus / "first", "--out", page)
    assert (code, err) == (0, "")
    assert out == f"{page}: 3 utterances, {page.stat().st_size / 1e3:.0f} kB\n"
    found = content(page)
    wer = json.loads(s2s_cli("score", "wer", corpus / "text", corpus / "first", "--json")[1])["wer"]
    assert found["title"] == str(corpus / "first")
    assert found["systems"][0]["score"] == pytest.approx(100 * wer["rate"])
    assert found["systems"][0]["signature"] == wer["signature"]
    assert [each["id"] for each in found["utterances"]] == ["a", "b", "c"]


def test_a_page_of_two_systems_with_speakers_and_audio(corpus: Path, s2s_cli: Cli) -> None:
    page = corpus / "report.html"
    options = ("--title", "<Two>", "--utt2spk", corpus / "utt2spk", "--audio", corpus, "--metric", "cer")
    code, out, err = s2s_cli(
        "score", "report", corpus / "text", corpus / "first", corpus / "second", "--out", page, *options
    )
    assert code == 0
    assert " kB of it audio of 3 utterances" in out
    assert f"1 of 3 references have no hypothesis in {corpus / 'second'} and count as deleted: c" in err
    found = content(page)
    assert (found["title"], found["metric"], len(found["systems"])) == ("<Two>", "CER", 2)
    assert [each["label"] for each in found["speakers"]] == ["anna", "bo"]
    assert [each["better"] for each in found["utterances"]] == [1, 0, 0]
    assert found["comparison"]["tests"][0]["name"] == "matched pairs of utterances"


def test_audio_in_the_page_is_each_utterances_own_at_16_khz(corpus: Path, s2s_cli: Cli) -> None:
    page = corpus / "report.html"
    assert (
        s2s_cli("score", "report", corpus / "text", corpus / "first", "--out", page, "--audio", corpus / "wav.scp")[0]
        == 0
    )
    for place, seconds in enumerate((1.0, 0.5, 0.5)):
        samples, rate = clip(page, place)
        assert (rate, len(samples)) == (16000, seconds * 16000)
    whole, _ = soundfile.read(corpus / "c.wav")
    samples, _ = clip(page, 2)
    spectra = [np.abs(np.fft.rfft(signal))[: 16000 // 5] / len(signal) for signal in (whole, samples)]
    np.testing.assert_allclose(spectra[1], spectra[0], atol=2e-4)


def test_audio_may_be_a_folder_of_files_named_by_id(corpus: Path, s2s_cli: Cli) -> None:
    folder = corpus / "clips" / "deep"
    folder.mkdir(parents=True)
    for name in ("a", "c"):
        soundfile.write(folder / f"{name}.flac", np.zeros(800), 8000)
    page = corpus / "report.html"
    code, out, err = s2s_cli(
        "score", "report", corpus / "text", corpus / "first", "--out", page, "--audio", corpus / "clips"
    )
    assert code == 0
    assert "audio of 2 utterances" in out
    assert f"1 of 3 utterances have no audio in {corpus / 'clips'}: b\n" in err
    assert clip(page, 2)[1] == 8000  # no more than the recording has
    soundfile.write(folder / "a.wav", np.zeros(800), 8000)
    err = s2s_cli("score", "report", corpus / "text", corpus / "first", "--out", page, "--audio", corpus / "clips")[2]
    assert "two files of utterance 'a'; keep one of them" in err


def test_audio_may_be_linked_to(corpus: Path, s2s_cli: Cli) -> None:
    page = corpus / "deep er" / "report.html"
    options = ("--audio", corpus, "--link-audio")
    code, out, _ = s2s_cli("score", "report", corpus / "text", corpus / "first", "--out", page, *options)
    assert code == 0
    assert "of it audio" not in out
    links = [each["audio"] for each in content(page)["utterances"]]
    assert links == ["../long.wav#t=0.25,1.25", "../long.wav#t=1.5,2", "../c.wav"]
    assert os.path.samefile(page.parent / links[2], corpus / "c.wav")


def test_a_page_of_translations(corpus: Path, s2s_cli: Cli) -> None:
    page = corpus / "report.html"
    for name in ("text", "first", "second"):
        lines = (corpus / name).read_text().splitlines()
        (corpus / f"{name}.txt").write_text("".join(line[2:] + "\n" for line in lines))
    (corpus / "second.txt").write_text("five nine one\nnine\n\n")
    plain = [corpus / f"{name}.txt" for name in ("text", "first", "second")]
    assert s2s_cli("score", "report", *plain, "--out", page, "--metric", "chrf", "--word-order", "2")[0] == 0
    found = content(page)
    assert found["metric"] == "chrF2++"
    assert [each["id"] for each in found["utterances"]] == ["1", "2", "3"]
    assert found["systems"][1]["empty"] == 1
    command = ("score", "report", corpus / "text", corpus / "first", "--out", page, "--metric", "bleu", "--kaldi")
    assert s2s_cli(*command)[0] == 0
    assert [each["id"] for each in content(page)["utterances"]] == ["a", "b", "c"]
    score = json.loads(s2s_cli("score", "bleu", corpus / "text", corpus / "first", "--kaldi", "--json")[1])
    assert content(page)["systems"][0]["score"] == pytest.approx(score["score"])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--metric", "per"), 2, "--metric per: expected one of bleu, chrf, ter, wer, cer"),
        (("--link-audio",), 2, "--link-audio needs --audio SRC"),
        (("--tokenize", "char"), 2, "--tokenize is for bleu, not for wer"),
        (("--audio", "{corpus}/nothing"), 1, "nothing: not there; expected a Kaldi data directory"),
        (("--audio", "{corpus}/empty"), 1, "empty: no audio or video file in this folder"),
        (("--audio", "{corpus}/others"), 1, "others: audio of none of the 3 utterances, 'a' for one"),
        (("--audio", "{corpus}/broken"), 1, "c.wav"),
        (("--utt2spk", "{corpus}/speakers"), 1, "speakers: none of the utterances that are scored is in it"),
        (("--utt2spk", "{corpus}/text"), 1, "text:1: expected `id speaker`, got 4 fields"),
        (("--out", "{corpus}/empty"), 2, "empty: is a folder; name a file, such as report.html"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_page(
    options: tuple[str, ...], code: int, message: str, corpus: Path, s2s_cli: Cli
) -> None:
    for name in ("empty", "others", "broken"):
        (corpus / name).mkdir()
    soundfile.write(corpus / "others" / "x.wav", np.zeros(800), 8000)
    (corpus / "broken" / "c.wav").write_bytes(b"RIFF and no more")
    (corpus / "speakers").write_text("x anna\n")
    given = [option.format(corpus=corpus) for option in options]
    out = [] if "--out" in options else ["--out", corpus / "report.html"]
    found, stdout, err = s2s_cli("score", "report", corpus / "text", corpus / "first", *out, *given)
    assert (found, stdout) == (code, "")
    errors = [line for line in err.splitlines() if line.startswith("s2s: error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(corpus.glob("*.html")) + list(corpus.glob(".*.part"))
