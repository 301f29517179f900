"""Every mode that s2s ships, built from its config; what fits no mode or no vocabulary is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_model, toy_source
from toy_monotonic import monotonic_decoder, monotonic_model
from toy_segmental import segmental_model
from toy_whisper import toy_whisper_bundle

import s2s.conf
from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.decoding.engine import LabelSearch
from s2s.decoding.ensemble import encode
from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.repetition import compression_ratio
from s2s.decoding.search_all import search_all
from s2s.decoding.segmental import SegmentalSearch
from s2s.decoding.whisper import WhisperScorer
from s2s.errors import UserError
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.hybrid import HybridModel
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.lm_bundle import LanguageModelBundle
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.embedding import TokenFront
from s2s.tokenizers.base import SPACE, SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "a", "b", SPACE, "c"])  # 8 pieces, as the toy model
MODES = sorted(path.stem for path in (Path(s2s.conf.__file__).parent / "decoding").glob("*.yaml"))


def model_of(mode: str, seed: int = 0) -> HybridModel:
    """A toy model that can be searched so."""
    if mode == "segmental":
        return segmental_model(8, seed)
    return monotonic_model(8, seed) if mode == "monotonic" else toy_model(8, seed)


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-8)
    assert [h.frames for h in found] == [h.frames for h in expected]


def test_there_is_a_file_for_every_mode() -> None:
    assert {"greedy", "beam", "joint", "diverse", "sampling", "mbr", "ctc_prefix", "rescoring"} <= set(MODES)


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=st.lists(st.integers(7, 60), min_size=2, max_size=5),
    padding=st.sampled_from([0.0, 5.0, float("nan")]),
    more=st.integers(0, 30),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=5)
def test_an_utterance_decodes_the_same_alone_and_in_any_batch(
    mode: str, lengths: list[int], padding: float, more: int, batch_size: int, seed: int
) -> None:
    options = [f"decoding={mode}", f"decoding.batch_size={batch_size}", "decoding.token_times=true"]
    width = [] if "greedy" in mode else ["decoding.beam_size=4", f"decoding.nbest={1 if mode == 'mbr' else 4}"]
    model = model_of(mode, seed)
    search = build_search(load_decoding_config([*options, *width]), [model], TOKENIZER)
    with torch.no_grad():
        source, sizes = toy_source(lengths, seed, padding, more)
        together = dict(search_all(search, [model.encode(source, sizes)]))
        order = list(reversed(range(len(lengths))))
        source, sizes = toy_source(lengths, seed)
        turned = dict(search_all(search, [model.encode(source[order], sizes[order])]))
        for b, length in enumerate(lengths):
            alone = search(model.encode(source[b : b + 1, :length], sizes[b : b + 1]))[0]
            same(together[b], alone)
            same(turned[order.index(b)], alone)


@pytest.mark.parametrize("mode", MODES)
def test_broken_weights_above_the_encoder_are_reported_in_every_mode(mode: str) -> None:
    options = [f"decoding={mode}"] + ([] if "greedy" in mode else ["decoding.beam_size=4", "decoding.nbest=1"])
    model = model_of(mode)
    with torch.no_grad():
        model.ctc.out.bias[:] = float("nan")
        model.decoder.out.bias[5] = float("nan")  # type: ignore[attr-defined]
        search = build_search(load_decoding_config(options), [model], TOKENIZER)
        with pytest.raises(UtteranceError, match=r"utterance 1 of the batch: .*not a number"):
            list(search_all(search, [model.encode(*toy_source([20, 30]))]))


@pytest.mark.parametrize("mode", MODES)
def test_a_broken_encoder_output_is_named_in_every_mode(mode: str) -> None:
    options = [f"decoding={mode}"] + ([] if "greedy" in mode else ["decoding.beam_size=4", "decoding.nbest=1"])
    model = model_of(mode)
    search = build_search(load_decoding_config(options), [model], TOKENIZER)
    with torch.no_grad():
        good, bad = model.encode(*toy_source([20])), model.encode(*toy_source([20, 30]))
        bad.states[1, 2] = float("nan")
        with pytest.raises(UtteranceError, match=r"utterance 3 of the batch: .*not a number"):
            list(search_all(search, [good, bad]))


def test_an_ensemble_of_one_model_twice_is_that_model_and_its_score_the_mean() -> None:
    models = [toy_model(8, 0), toy_model(8, 1)]
    source = toy_source([40, 25])
    config = DecodingConfig(beam_size=4, nbest=4, batch_size=1)
    with torch.no_grad():
        alone = build_search(config, models[:1], TOKENIZER)(encode(models[:1], *source))
        twice = build_search(config, [models[0]] * 2, TOKENIZER)(encode([models[0]] * 2, *source))
        for found, expected in zip(twice, alone, strict=True):
            same(found, expected)
        both = build_search(config, models, TOKENIZER)(encode(models, *source))
        for b, found in enumerate(both):
            for hypothesis in found:
                parts = hypothesis.scores
                assert set(parts) == {"attention", "ctc", "attention2", "ctc2"}
                mean = 0.35 * (parts["attention"] + parts["attention2"]) + 0.15 * (parts["ctc"] + parts["ctc2"])
                assert hypothesis.score == pytest.approx(mean, abs=1e-8)
                own = models[1].encode(*source).rows(b, b + 1)
                log_probs = models[1].decoder(own, torch.tensor([[2, *hypothesis.tokens]]))[0]
                expected_part = sum(log_probs[i, t].item() for i, t in enumerate([*hypothesis.tokens, 3]))
                assert parts["attention2"] == pytest.approx(expected_part, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_ctc_alone_with_a_bonus_is_searched_over_the_whole_vocabulary(seed: int) -> None:
    model = toy_model(8, seed)
    with torch.no_grad():
        memory = model.encode(*toy_source([40, 25]))
        beam = DecodingConfig(beam_size=2, ctc_weight=1.0, length_bonus=0.1)
        found = build_search(beam, [model], TOKENIZER)(memory)
        whole = build_search(replace(beam, num_candidates=8), [model], TOKENIZER)(memory)
        for some, everything in zip(found, whole, strict=True):
            same(some, everything)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_the_shortest_sources_are_decoded(mode: str, frames: int) -> None:
    options = [f"decoding={mode}", "decoding.token_times=true", "decoding.attention=true"]
    options += [] if "greedy" in mode else ["decoding.beam_size=4", "decoding.nbest=1"]
    model = model_of(mode)
    with torch.no_grad():
        memory = model.encode(*toy_source([frames, 20]))
        assert int(memory.lengths[0]) >= 1
        assert len(build_search(load_decoding_config(options), [model], TOKENIZER)(memory)) == 2


@pytest.mark.parametrize("mode", ["beam", "segmental"])
def test_attention_is_where_the_decoder_looked(mode: str) -> None:
    model = model_of(mode)
    search = build_search(DecodingConfig(mode, beam_size=4, nbest=2, attention=True), [model], TOKENIZER)
    with torch.no_grad():
        memory = model.encode(*toy_source([40, 25]))
        for b, found in enumerate(search(memory)):
            for hypothesis in found:
                assert hypothesis.attention is not None
                assert hypothesis.attention.shape == (len(hypothesis.tokens), int(memory.lengths[b]))
                torch.testing.assert_close(
                    hypothesis.attention.sum(dim=1), torch.ones(len(hypothesis.tokens), dtype=torch.float64)
                )


def test_a_hypothesis_that_ctc_cannot_align_has_no_times() -> None:
    model = toy_model(8)
    config = DecodingConfig(beam_size=1, ctc_weight=0.0, max_length_ratio=3.0, min_length_ratio=3.0, token_times=True)
    with torch.no_grad():
        found = build_search(config, [model], TOKENIZER)(model.encode(*toy_source([30])))[0][0]
    assert len(found.tokens) > 7
    assert found.frames is None


def language_model(folder: Path, pieces: list[str]) -> Path:
    torch.manual_seed(0)
    config = {
        "_target_": "s2s.models.language_model.TransformerLanguageModel",
        "vocab_size": len(pieces),
        "model_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "feed_forward_dim": 8,
    }
    model = TransformerLanguageModel(len(pieces), 8, 1, 2, 8)
    LanguageModelBundle(model, CharacterTokenizer(pieces), config).save(folder)
    return folder


def arpa(folder: Path, words: str) -> Path:
    path = folder / "lm.arpa"
    unigrams = [f"-1.0\t{word}" for word in ["<unk>", "<s>", "</s>", *words.split()]]
    lines = ["\\data\\", f"ngram 1={len(unigrams)}", "", "\\1-grams:", *unigrams, "", "\\end\\"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("search", ["beam", "ctc_prefix"])
def test_all_that_knows_nothing_of_the_audio_adds_up(tmp_path: Path, search: str) -> None:
    model = toy_model(8)
    (tmp_path / "phrases").write_text("a c\t1.5\nb\n", encoding="utf-8")
    config = DecodingConfig(
        search=search,
        beam_size=4,
        nbest=2,
        lm=str(language_model(tmp_path / "lm", [*SPECIAL_PIECES, "a", "b", SPACE, "c"])),
        lm_weight=0.2,
        ngram=str(arpa(tmp_path, f"a b {SPACE} c")),
        ngram_weight=0.4,
        phrases=str(tmp_path / "phrases"),
        length_bonus=0.3,
    )
    with torch.no_grad():
        for found in build_search(config, [model], TOKENIZER)(model.encode(*toy_source([40, 25]))):
            for hypothesis in found:
                parts = hypothesis.scores
                weights = {"lm": 0.2, "ngram": 0.4, "phrases": 1.0, "length": 0.3}
                weights |= {"attention": 0.7, "ctc": 0.3} if search == "beam" else {"ctc": 1.0}
                assert set(parts) == set(weights)
                total = sum(weight * parts[name] for name, weight in weights.items())
                assert hypothesis.score == pytest.approx(total, abs=1e-5)
                assert parts["length"] == len(hypothesis.tokens)


@pytest.mark.parametrize(("search", "rescore"), [("beam", False), ("ctc_prefix", False), ("ctc_prefix", True)])
def test_language_models_score_what_a_search_found(tmp_path: Path, search: str, rescore: bool) -> None:
    model = toy_model(8)
    lm = {"lm": str(language_model(tmp_path / "lm", [*SPECIAL_PIECES, "a", "b", SPACE, "c"])), "lm_weight": 0.7}
    ngram = {"ngram": str(arpa(tmp_path, f"a b {SPACE} c")), "ngram_weight": 0.4}
    config = DecodingConfig(search=search, beam_size=4, nbest=4, rescore=rescore)
    with torch.no_grad():
        memory = model.encode(*toy_source([40, 25]))
        first = build_search(replace(config, rescore=False), [model], TOKENIZER)(memory)
        search_ = build_search(replace(config, lm_rescoring=True, **lm, **ngram), [model], TOKENIZER)
        for found, before in zip(search_(memory), first, strict=True):
            assert {tuple(h.tokens) for h in found} == {tuple(h.tokens) for h in before}
            was = {tuple(h.tokens): h.score for h in before}
            for h in found:
                share = {"attention_rescoring": 0.7} if rescore else {}
                weights = {"lm_rescoring": 0.7, "ngram_rescoring": 0.4, **share}
                total = (0.3 if rescore else 1.0) * was[tuple(h.tokens)]
                total += sum(weight * h.scores[name] for name, weight in weights.items())
                assert h.score == pytest.approx(total, abs=1e-5)
                assert h.scores["ngram_rescoring"] == pytest.approx((len(h.tokens) + 1) * -2.302585, abs=1e-4)


def test_in_a_search_of_everything_fusion_and_rescoring_are_the_same(tmp_path: Path) -> None:
    model = toy_model(8)
    options = {
        "lm": str(language_model(tmp_path / "lm", [*SPECIAL_PIECES, "a", "b", SPACE, "c"])),
        "ngram": str(arpa(tmp_path, f"a b {SPACE} c")),
    }
    config = DecodingConfig(
        search="beam", beam_size=8, nbest=8, num_candidates=8, max_length=1, max_length_ratio=9.0, **options
    )
    with torch.no_grad():
        memory = model.encode(*toy_source([40, 25]))
        fused = build_search(config, [model], TOKENIZER)(memory)
        rescored = build_search(replace(config, lm_rescoring=True), [model], TOKENIZER)(memory)
    for a, b in zip(fused, rescored, strict=True):
        assert len(a) == 6  # the empty text, and one of each token but blank, bos and eos
        assert [h.tokens for h in a] == [h.tokens for h in b]
        assert [h.score for h in a] == pytest.approx([h.score for h in b], abs=1e-5)


def test_a_prefix_and_a_closed_set_of_phrases_are_kept_to(tmp_path: Path) -> None:
    model = toy_model(8)
    (tmp_path / "choices").write_text("ab\nc a\n", encoding="utf-8")
    with torch.no_grad():
        memory = model.encode(*toy_source([60, 45]))
        for options, allowed in (
            ({"prefix": "ba c"}, lambda text: text.startswith("ba c")),
            ({"choices": str(tmp_path / "choices")}, lambda text: text in ("ab", "c a")),
            (
                {"choices": str(tmp_path / "choices"), "choices_repeat": True, "min_length": 6},
                lambda text: not text.replace("ab", "").replace("c a", "").strip() and len(text) >= 6,
            ),
            ({"no_repeat_ngram": 1, "min_length": 3}, lambda text: len(set(text)) == len(text) >= 2),
        ):
            search = build_search(DecodingConfig(beam_size=4, ctc_weight=0.0, **options), [model], TOKENIZER)
            for found in search(memory):
                assert allowed(TOKENIZER.decode(found[0].tokens)), TOKENIZER.decode(found[0].tokens)


def test_a_text_that_repeats_itself_gives_way_to_one_that_does_not() -> None:
    model = toy_model(8, 0)
    options = {"beam_size": 8, "nbest": 8, "ctc_weight": 0.0, "max_length_ratio": 1.0, "min_length_ratio": 1.0}

    def ratio(hypothesis: Hypothesis) -> float:
        return compression_ratio(TOKENIZER.decode(hypothesis.tokens))

    with torch.no_grad():
        memory = model.encode(*toy_source([200]))
        plain = build_search(DecodingConfig(**options), [model], TOKENIZER)(memory)[0]
        limit = (min(map(ratio, plain)) + max(map(ratio, plain))) / 2
        assert ratio(plain[0]) > limit  # the best by score is one that repeats itself
        guarded = build_search(DecodingConfig(**options, max_compression_ratio=limit), [model], TOKENIZER)(memory)[0]
        best = build_search(DecodingConfig(**{**options, "nbest": 1}, max_compression_ratio=limit), [model], TOKENIZER)(
            memory
        )[0]
    expected = [h for h in plain if ratio(h) <= limit] + [h for h in plain if ratio(h) > limit]
    same(guarded, expected)
    same(best, expected[:1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 9}, r"decoding\.beam_size=9: expected 1 to 8, the size of the vocabulary"),
        ({"beam_size": 0}, r"nbest=1: expected 1 to beam_size=0"),
        ({"beam_size": 2, "nbest": 3}, r"nbest=3: expected 1 to beam_size=2"),
        ({"beam_size": 4, "max_length_ratio": 0.0}, r"max_length_ratio=0\.0"),
        ({"search": "monotonic"}, r"decoding\.search=monotonic: no head of this model's decoder stops"),
        ({"lm_rescoring": True}, r"decoding\.lm_rescoring=True: has no effect without decoding\.lm or decoding\.ngram"),
        ({"internal_lm": "utterance"}, r"internal_lm=utterance: has no effect without decoding\.internal_lm_weight"),
        (
            {"beam_size": 4, "internal_lm": "mean", "internal_lm_weight": 0.1},
            r"internal_lm=mean: expected zero or utterance, or a file",
        ),
        ({"search": "bean"}, r"decoding\.search=bean: .* Did you mean 'beam'"),
        ({"ctc_weight": 1.5}, r"decoding\.ctc_weight=1\.5"),
        ({"batch_size": 0}, r"decoding\.batch_size=0"),
        ({"num_candidates": 0}, r"decoding\.num_candidates=0: expected 1 or more"),
        ({"num_candidates": -3}, r"decoding\.num_candidates=-3: expected 1 or more"),
        ({"temperature": 0.5}, r"decoding\.temperature=0\.5: has no effect with search=beam"),
        ({"patience": 2.0}, r"decoding\.patience=2\.0: has no effect without decoding\.end_detection"),
        ({"beam_size": 4, "patience": -1.0, "end_detection": "patience"}, r"patience=-1\.0: expected a number above 0"),
        ({"beam_size": 4, "length_power": -1.0}, r"length_power=-1\.0"),
        (
            {"search": "sampling", "end_detection": "patience"},
            r"end_detection=patience: has no effect with search=samp",
        ),
        ({"search": "ctc_greedy", "lm": "x"}, r"decoding\.lm=x: has no effect with search=ctc_greedy"),
        ({"lm_weight": 0.5}, r"decoding\.lm_weight=0\.5: has no effect without decoding\.lm"),
        ({"beam_size": 4, "lm": "/nowhere"}, r"/nowhere: .*expected the folder of a language model"),
        ({"beam_size": 4, "ngram": "/nowhere"}, r"/nowhere"),
        ({"beam_size": 4, "phrases": "/nowhere"}, r"/nowhere"),
        ({"beam_size": 4, "prefix": "xyz"}, r"decoding\.prefix=xyz: has characters that the tokenizer lacks"),
        ({"beam_size": 4, "mbr": "cer"}, r"utility=cer: expected one of"),
        ({"search": "sampling", "beam_size": 4, "top_p": 0.0}, r"top_p=0\.0"),
        ({"search": "ctc_prefix", "beam_size": 4, "rescore": True, "reverse_weight": 0.5}, r"no right-to-left decoder"),
        ({"beam_size": 4, "max_compression_ratio": -1.0}, r"max_compression_ratio=-1\.0"),
        ({"beam_size": 4, "groups": 3}, r"groups=3"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_search(DecodingConfig(**values), [toy_model(8)], TOKENIZER)  # type: ignore[arg-type]


def test_language_models_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = language_model(tmp_path / "lm", [*SPECIAL_PIECES, "a", "c", SPACE, "b"])
    with pytest.raises(UserError, match=r"decoding\.lm=.*another tokenizer .* piece 5 is 'c', the model's 'b'"):
        build_search(DecodingConfig(beam_size=4, lm=str(folder)), [toy_model(8)], TOKENIZER)
    with pytest.raises(UserError, match=r"lm\.arpa.*zebra"):
        build_search(DecodingConfig(beam_size=4, ngram=str(arpa(tmp_path, "a zebra"))), [toy_model(8)], TOKENIZER)


def toy_translator(seed: int = 0, max_positions: int = 0) -> EncoderDecoder:
    """A model without a CTC output, over text."""
    torch.manual_seed(seed)
    encoder = TransformerEncoder(TokenFront(9, 16), 16, 2, 2, 32)
    kind = "learned" if max_positions else "sinusoidal"
    decoder = TransformerDecoder(8, 16, 16, 2, 2, 32, positions=kind, max_positions=max_positions)
    with torch.no_grad():
        decoder.out.weight *= 3  # type: ignore[operator, union-attr]
    return EncoderDecoder(8, encoder, decoder).double().eval()


def toy_text(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B,S), 8 past each end; lengths (B,)."""
    tokens = torch.full((len(lengths), max(lengths)), 8)
    for b, length in enumerate(lengths):
        tokens[b, :length] = torch.randint(8, (length,), generator=torch.Generator().manual_seed(seed + b))
    return tokens, torch.tensor(lengths)


WITH_CTC = {"ctc_greedy", "ctc_prefix", "rescoring", "segmental"}


@pytest.mark.parametrize("mode", sorted({*MODES} - WITH_CTC))
@given(
    lengths=st.lists(st.integers(1, 12), min_size=2, max_size=4), batch_size=st.integers(1, 4), seed=st.integers(0, 99)
)
@settings(max_examples=3)
def test_a_model_without_ctc_decodes_the_same_alone_and_in_any_batch(
    mode: str, lengths: list[int], batch_size: int, seed: int
) -> None:
    options = [f"decoding={mode}", f"decoding.batch_size={batch_size}", "decoding.attention=true"]
    width = [] if "greedy" in mode else ["decoding.beam_size=4", f"decoding.nbest={1 if mode == 'mbr' else 4}"]
    model = toy_translator(seed)
    if mode == "monotonic":
        model.decoder = monotonic_decoder(8, seed)
    search = build_search(load_decoding_config([*options, *width]), [model], TOKENIZER)
    with torch.no_grad():
        together = search(model.encode(*toy_text(lengths, seed)))
        for b, length in enumerate(lengths):
            memory = model.encode(*toy_text([length], seed + b))
            same(together[b], search(memory)[0])
            for hypothesis in together[b]:
                assert set(hypothesis.scores) == ({"attention", "model"} if mode == "mbr" else {"attention"})
                assert hypothesis.attention is not None
                assert hypothesis.attention.shape == (len(hypothesis.tokens), length)
                log_probs = model.decoder(memory, torch.tensor([[2, *hypothesis.tokens]]))[0]
                log_prob = sum(log_probs[i, t].item() for i, t in enumerate([*hypothesis.tokens, 3]))
                assert hypothesis.scores["attention"] == pytest.approx(log_prob, abs=1e-8)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"search": "ctc_greedy"}, "search=ctc_greedy"),
        ({"search": "ctc_prefix"}, "search=ctc_prefix"),
        ({"search": "ctc_prefix", "rescore": True}, "search=ctc_prefix"),
        ({"rescore": True}, "rescore=true"),
        ({"token_times": True}, "token_times=true"),
        ({"internal_lm_weight": 0.2}, r"internal_lm_weight=0\.2"),
    ],
)
def test_what_needs_ctc_is_refused_of_a_model_without(values: dict[str, object], name: str) -> None:
    config = DecodingConfig(**{"beam_size": 4, **values})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"decoding\.{name}: is for a model with a CTC output"):
        build_search(config, [toy_translator()], TOKENIZER)


def test_an_ensemble_of_models_without_ctc_is_their_mean() -> None:
    models, source = [toy_translator(0), toy_translator(1)], toy_text([6, 3])
    config = DecodingConfig(beam_size=4, nbest=4, batch_size=1)
    with torch.no_grad():
        for hypotheses in build_search(config, models, TOKENIZER)(encode(models, *source)):
            for hypothesis in hypotheses:
                mean = sum(hypothesis.scores.values()) / 2
                assert set(hypothesis.scores) == {"attention", "attention2"}
                assert hypothesis.score == pytest.approx(mean, abs=1e-8)


def test_no_text_is_longer_than_the_positions_a_decoder_has_learned() -> None:
    endless = {"beam_size": 2, "max_length_ratio": 9.0, "min_length": 5}
    with torch.no_grad():
        for max_length, longest in ((None, 6), (5, 5)):
            model = toy_translator(max_positions=7)
            model.decoder.out.bias[3] = -99.0  # type: ignore[attr-defined]  # eos, only where it must be
            config = DecodingConfig(**endless, max_length=max_length)  # type: ignore[arg-type]
            found = build_search(config, [model], TOKENIZER)(model.encode(*toy_text([9])))
            assert len(found[0][0].tokens) == longest


@pytest.mark.parametrize("multilingual", [True, False])
def test_whisper_has_room_for_its_longest_prompt_and_its_longest_text(multilingual: bool) -> None:
    bundle = toy_whisper_bundle(multilingual)
    tokenizer = bundle.tokenizer
    search = build_search(load_decoding_config(["decoding=whisper"]), [bundle.model], tokenizer)
    assert isinstance(search, LabelSearch)
    assert isinstance(search.scorers["attention"], WhisperScorer)
    prompt = tokenizer.prompt("en", timestamps=False, previous=[65] * 999)  # type: ignore[attr-defined]
    # Of the text all but its end is given to the decoder.
    assert len(prompt) + int(search.limits.of(torch.tensor([1500]))[1]) <= 448


@pytest.mark.parametrize("recombine", ["max", "sum"])
@pytest.mark.parametrize("segment_search", ["segmental", "time_synchronous"])
def test_a_segmental_search_is_as_its_config_says(segment_search: str, recombine: str) -> None:
    config = load_decoding_config(
        ["decoding=segmental", f"decoding.segment_search={segment_search}", f"decoding.recombine={recombine}"]
    )
    search = build_search(config, [segmental_model(8)], TOKENIZER)
    assert isinstance(search, SegmentalSearch)
    assert search.apart == (32 if segment_search == "segmental" else 0)
    assert (search.total, search.threshold, search.beam_size) == (recombine == "sum", 10.0, 10)


def test_an_ensemble_has_no_segmental_member() -> None:
    with pytest.raises(UserError, match=r"decoding\.ensemble=\['a'\]: has no effect with search=segmental"):
        DecodingConfig("segmental", ensemble=["a"])
    with pytest.raises(UserError, match=r"decoding\.search=beam: needs a decoder that goes from label to label"):
        build_search(DecodingConfig(ensemble=["a"]), [toy_model(8), segmental_model(8)], TOKENIZER)
