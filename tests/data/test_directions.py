"""Utterances become examples of directions, each with what is written, what is said and what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from lhotse import CutSet

from s2s.data.cuts import language, text, translations
from s2s.data.directions import all_asking, in_directions, prompt, spoken
from s2s.data.jsonl import read_cuts
from s2s.data.kaldi import read_kaldi, write_kaldi
from s2s.data.parallel import Direction
from s2s.errors import UserError
from s2s.tokenizers.prompts import Prompt, PromptTokens

EN_DE, EN_EN, DE_EN = Direction("en", "de"), Direction("en", "en"), Direction("de", "en")
Rows = list[dict[str, str]]


@pytest.fixture
def cuts(folder, digits: Rows) -> CutSet:
    """Eight English utterances, four of them in German too, and two German ones with both."""
    names = [row["id"] for row in digits[:10]]
    made = folder(
        wav_scp=[f"{row['id']} {row['path']}" for row in digits[:10]],
        text=[f"{name} Said {i}." for i, name in enumerate(names)],
        utt2lang=[f"{name} {'de' if i > 7 else 'en'}" for i, name in enumerate(names)],
        **{"text.de": [f"{name} Gesagt {i}." for i, name in enumerate(names[:4])]},
        **{"text.en": [f"{name} Spoken {i}." for i, name in enumerate(names) if i > 7]},
    )
    found, problems = read_kaldi(made)
    assert problems == []
    return found


def test_languages_and_translations_are_read_and_written(cuts: CutSet, tmp_path: Path) -> None:
    assert [language(cut) for cut in cuts] == ["en"] * 8 + ["de"] * 2
    assert [translations(cut) for cut in cuts][3:5] == [{"de": "Gesagt 3."}, {}]
    write_kaldi(cuts, tmp_path / "again")
    again, _ = read_kaldi(tmp_path / "again")
    expected = {cut.id: (text(cut), language(cut), translations(cut)) for cut in cuts}
    assert {cut.id: (text(cut), language(cut), translations(cut)) for cut in again} == expected
    write_kaldi(cuts.subset(first=3), tmp_path / "again")  # a folder of its own kind is replaced, text.de too
    assert len((tmp_path / "again/text.de").read_text().splitlines()) == 3
    assert not (tmp_path / "again/text.en").exists()
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    lhotse, _ = read_cuts(tmp_path / "cuts.jsonl.gz")
    assert {cut.id: (text(cut), language(cut), translations(cut)) for cut in lhotse} == expected


def test_each_direction_has_the_utterances_of_its_source_with_words_in_its_target(cuts: CutSet) -> None:
    found = list(in_directions(cuts, [EN_DE, EN_EN, DE_EN]))
    by_direction = {d: [c for c in found if c.id.endswith(f":{d}")] for d in (EN_DE, EN_EN, DE_EN)}
    assert {str(d): len(own) for d, own in by_direction.items()} == {"en-de": 4, "en-en": 8, "de-en": 2}
    first = by_direction[EN_DE][0]
    assert (text(first), spoken(first), prompt(first)) == ("Gesagt 0.", "Said 0.", Prompt("en", "de"))
    assert (text(by_direction[EN_EN][5]), spoken(by_direction[EN_EN][5])) == ("Said 5.", "Said 5.")
    assert text(by_direction[DE_EN][1]) == "Spoken 9."
    assert len({cut.id for cut in found}) == len(found)
    again = first.perturb_speed(1.1, affix_id=False)
    assert (prompt(again), spoken(again), again.load_audio().shape[1]) == (prompt(first), "Said 0.", again.num_samples)


def test_one_direction_keeps_the_ids_and_one_source_needs_no_languages(cuts: CutSet) -> None:
    [first, *_] = in_directions(cuts, [EN_DE])
    assert first.id == cuts[0].id
    silent = CutSet.from_cuts(
        cut.map_supervisions(lambda s: s.__class__(**{**s.to_dict(), "language": None})) for cut in cuts
    )
    assert len(in_directions(silent, [EN_DE, EN_EN])) == 4 + 10
    with pytest.raises(UserError, match=rf"wav\.scp:1: nobody says in which language utterance {cuts[0].id} is"):
        in_directions(silent, [EN_DE, DE_EN])
    with pytest.raises(UserError, match=r"data\.pairs: no utterance for en-fr; expected"):
        in_directions(cuts, [EN_DE, Direction("en", "fr")])


def test_a_share_is_plain(cuts: CutSet) -> None:
    found = list(in_directions(cuts, [EN_EN, EN_DE], plain_share=0.5))
    assert {text(cut) == f"said {i}" for i, cut in enumerate(found) if cut.id.endswith("en-en")} <= {True, False}
    for cut in found:
        assert (text(cut) == text(cut).lower().strip(".")) == (not prompt(cut).punctuation)
    assert 0 < sum(not prompt(cut).punctuation for cut in found) < len(found)


def test_a_whole_data_set_asks_for_a_language(cuts: CutSet) -> None:
    tokens = PromptTokens(["en", "de"], ["transcribe", "translate"], 9)
    asked, task = all_asking(cuts, tokens, None, None)
    assert (task, {(prompt(c).source, prompt(c).target) for c in asked}) == ("transcribe", {("en", "en"), ("de", "de")})
    asked, task = all_asking(cuts, tokens, None, "de", punctuation=False)
    assert (task, {(prompt(c).source, prompt(c).target) for c in asked}) == ("translate", {("en", "de"), ("de", "de")})
    assert not any(prompt(cut).punctuation for cut in asked)
    with pytest.raises(UserError, match=r"language 'fr': the model has no token for it"):
        all_asking(cuts, tokens, None, "fr")
