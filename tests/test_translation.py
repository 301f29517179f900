"""Texts are translated in order, the same in any company, and not before they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_seq2seq import ENGLISH, LANGUAGES, toy_translation_bundle
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.translation_bundle import TranslationBundle
from s2s.translation import Translation, Translator, decoding_of, is_translation_model, load_translation_model

PLAIN = decoding_of({})
WORDS = " ".join(ENGLISH).split()
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> TranslationBundle:
    found = toy_translation_bundle(tmp_path_factory.mktemp("toy"))
    found.model.double()
    return found


@settings(max_examples=10)
@given(texts=TEXTS, batch_tokens=st.integers(1, 60), look_ahead=st.integers(0, 3), batch_size=st.integers(1, 5))
def test_a_text_is_translated_the_same_alone_and_in_any_company(
    texts: list[str], batch_tokens: int, look_ahead: int, batch_size: int, bundle: TranslationBundle
) -> None:
    decoding = replace(PLAIN, beam_size=3, nbest=3, batch_size=batch_size)
    alone = Translator(bundle, decoding)
    expected = [next(alone.translate(text)) for text in texts]
    found = list(Translator(bundle, decoding, None, batch_tokens, look_ahead).translate(texts))
    assert [t.source for t in found] == texts
    for ours, theirs in zip(found, expected, strict=True):
        assert [ours.text, *(t.text for t in ours.alternatives)] == [
            theirs.text,
            *(t.text for t in theirs.alternatives),
        ]
        assert ours.score == pytest.approx(theirs.score, abs=1e-9)


def test_texts_differ_and_those_that_are_empty_stay_empty(bundle: TranslationBundle) -> None:
    texts = ["the little cat", "", "a bird sees the sea", " \t\u00a0"]
    found = list(Translator(bundle).translate(texts))
    assert found[1] == Translation("", 0.0, "")
    assert found[3] == Translation("", 0.0, texts[3])
    assert found[0].score != found[2].score
    assert all(-20 < t.score < 0 for t in (found[0], found[2]))


def test_the_best_are_in_order_with_their_true_scores(bundle: TranslationBundle) -> None:
    decoding = replace(PLAIN, beam_size=4, nbest=4)
    (found,) = Translator(bundle, decoding).translate(["we see the little house"])
    scores = [found.score, *(t.score for t in found.alternatives)]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    model, tokenizer = bundle.model, bundle.tokenizer
    source = torch.tensor([tokenizer.encode_source("we see the little house")])
    with torch.no_grad():
        memory = model.encode(source, torch.tensor([source.size(1)]))
        (hypotheses,) = Translator(bundle, decoding).search(memory)
        for hypothesis, score in zip(hypotheses, scores, strict=True):
            tokens = torch.tensor([[model.bos_id, *hypothesis.tokens, model.eos_id]])
            log_probs = model.decoder(memory, tokens[:, :-1]).gather(2, tokens[:, 1:, None])
            assert score == pytest.approx(log_probs.mean().item(), abs=1e-9)  # length_power 1: the mean of a token


def test_texts_are_read_as_they_are_asked_for(bundle: TranslationBundle) -> None:
    read: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield "" if number % 2 else "a bird"

    translations = Translator(bundle, PLAIN, batch_tokens=10, look_ahead=2).translate(texts())
    assert read == []
    for number in range(40):
        next(translations)
        assert number < len(read) <= number + 20
    one = Translator(bundle, PLAIN, batch_tokens=1000, look_ahead=0).translate(texts())
    read.clear()
    next(one)
    assert len(read) == 1


def test_batches_keep_to_their_budget_with_sentences_of_one_length(bundle: TranslationBundle) -> None:
    translator = Translator(bundle, PLAIN, batch_tokens=20)
    sources = [[[3] * size] for size in (12, 9, 9, 5, 5, 4, 1, 1)]
    memories = list(translator._memories(sources))
    assert [memory.lengths.tolist() for memory in memories] == [[12], [9, 9], [5, 5, 4, 1], [1]]
    assert max(memory.states.shape[0] * memory.states.shape[1] for memory in memories) <= 20
    assert [len(m.lengths) for m in Translator(bundle, PLAIN, batch_tokens=3)._memories(sources[:2])] == [1, 1]


def test_a_text_too_long_for_the_model_is_named(bundle: TranslationBundle) -> None:
    translator = Translator(bundle)
    assert len(translator.encode("a " * 19)) <= 40
    with pytest.raises(UserError, match=r"too long: \d+ tokens, the model takes 40; translate it a sentence at a time"):
        translator.encode("a bird " * 40)
    with pytest.raises(UserError, match=r"text 2: too long"):
        list(translator.translate(["a", "a bird " * 40]))


def test_translations_end_within_the_positions_of_the_model(bundle: TranslationBundle, tmp_path: Path) -> None:
    endless = toy_translation_bundle(tmp_path)
    with torch.no_grad():
        endless.model.decoder.out_bias[endless.tokenizer.eos_id] = -50.0
    decoding = replace(PLAIN, beam_size=2)
    search = Translator(endless, decoding).search
    source = torch.tensor([endless.tokenizer.encode_source("we see the little house")])
    with torch.no_grad():
        (found,) = search(endless.model.encode(source, torch.tensor([source.size(1)])))
    assert len(found[0].tokens) == min(39, 3 * source.size(1))  # three for one; 40 positions, bos has one


def test_output_that_is_not_a_number_is_named_by_text(tmp_path: Path) -> None:
    bad = toy_translation_bundle(tmp_path)
    with torch.no_grad():
        bad.model.encoder.front.embedding.weight[bad.tokenizer.encode_source("cat")[1]] = float("nan")
    with pytest.raises(UserError, match=r"text 3: the model's output is not a number"):
        list(Translator(bad).translate(["the sea", "", "a little cat cat", "we see"]))


def test_a_language_is_chosen_once_for_all(tmp_path: Path) -> None:
    many = toy_translation_bundle(tmp_path, LANGUAGES)
    german, dutch = Translator(many, PLAIN, target_language="deu"), Translator(many, PLAIN, target_language="nld")
    assert german.encode("the sea")[1:] == dutch.encode("the sea")[1:]
    assert many.tokenizer.pieces([german.encode("the sea")[0], dutch.encode("the sea")[0]]) == list(LANGUAGES)
    assert german.encode(">>nld<< the sea") == dutch.encode("the sea")
    assert german.encode("  ") == []
    with pytest.raises(UserError, match=r"'fra': the model lacks it; it has deu, nld"):
        Translator(many, PLAIN, target_language="fra")
    with pytest.raises(UserError, match=r"text 1: no target language: name one"):
        list(Translator(many).translate("the sea"))
    for more in ({"source_language": "eng"}, {"punctuation": False}):
        with pytest.raises(UserError, match="this model takes no prompts"):
            Translator(many, PLAIN, "deu", **more)  # type: ignore[arg-type]


def test_the_makers_settings_hold_unless_another_mode_is_chosen(bundle: TranslationBundle) -> None:
    own = {"beam_size": 7, "length_power": 0.5, "no_repeat_ngram": 3, "max_length": 90}
    assert (PLAIN.beam_size, PLAIN.length_power, PLAIN.end_detection, PLAIN.max_length_ratio) == (
        5,
        1.0,
        "patience",
        3.0,
    )
    assert decoding_of(own) == replace(PLAIN, **own)
    for mode, beam_size in (("greedy", 1), ("beam", 10), ("sampling", 10)):
        found = decoding_of(own, mode)
        assert (found.beam_size, found.length_power, found.no_repeat_ngram, found.max_length) == (beam_size, 0.5, 3, 90)
        assert found.max_length_ratio == 3.0
    with pytest.raises(UserError, match=r"decoding=ctc_greedy: needs a CTC output"):
        decoding_of({}, "ctc_greedy")
    with pytest.raises(UserError, match=r"min_length"):
        Translator(bundle, decoding_of({"min_length": 9, "max_length": 5}))


@pytest.mark.parametrize("mode", ["greedy", "beam", "joint", "sampling", "diverse", "mbr"])
def test_every_mode_that_needs_no_ctc_translates(mode: str, bundle: TranslationBundle) -> None:
    translator = Translator(bundle, decoding_of(bundle.decoding, mode))
    found = list(translator.translate(["the little cat", "", "we see the sea"]))
    assert [t.source for t in found] == ["the little cat", "", "we see the sea"]
    assert found[1].text == ""


def test_folders_of_translation_models_are_told_from_others(bundle: TranslationBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "mt")
    toy_bundle().save(tmp_path / "speech")
    for kind in ("marian", "bart", "whisper"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    found = [
        name for name in ("mt", "marian", "bart", "whisper", "speech", "none") if is_translation_model(tmp_path / name)
    ]
    assert found == ["mt", "marian", "bart"]
    assert not is_translation_model("whisper-base")


def test_a_bundle_is_loaded_by_its_folder(bundle: TranslationBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "mt")
    found = load_translation_model(tmp_path / "mt", dtype="float64")
    expected = [t.text for t in Translator(bundle).translate(ENGLISH)]
    assert [t.text for t in Translator(found).translate(ENGLISH)] == expected


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int8"])
def test_it_calculates_with_the_numbers_asked_for(dtype: str, bundle: TranslationBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "mt")
    found = load_translation_model(tmp_path / "mt", dtype=dtype)
    types = {p.dtype for p in found.model.parameters()}
    assert types == {torch.float32 if dtype == "int8" else getattr(torch, dtype)}
    (translation,) = Translator(found, PLAIN).translate("we see the little house")
    (exact,) = Translator(bundle, PLAIN).translate("we see the little house")
    assert translation.score == pytest.approx(exact.score, abs=0.2)
    with pytest.raises(UserError, match=r"dtype=float23: expected one of"):
        load_translation_model(tmp_path / "mt", dtype="float23")


def test_a_budget_of_no_tokens_is_refused(bundle: TranslationBundle) -> None:
    with pytest.raises(UserError, match=r"batch_tokens=0: expected at least 1 token"):
        Translator(bundle, batch_tokens=0)
