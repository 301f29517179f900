"""The same config, offline and as a stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pieces import fed, same, sessions
from toy import toy_memory, toy_model
from toy_monotonic import monotonic_model
from toy_segmental import segmental_model

from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.kenlm import KenLMScorer
from s2s.decoding.streaming.block_joint import BlockJointSearch
from s2s.decoding.streaming.build import build_streaming_search
from s2s.decoding.streaming.ctc_greedy import StreamingCTCGreedySearch
from s2s.decoding.streaming.ctc_prefix import StreamingCTCPrefixSearch
from s2s.decoding.streaming.monotonic import MonotonicSearch
from s2s.decoding.streaming.segmental import StreamingSegmentalSearch
from s2s.decoding.streaming.two_pass import TwoPassSearch
from s2s.errors import UserError
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.lm_bundle import LanguageModelBundle
from s2s.tokenizers.base import SPACE, SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "a", "b", SPACE, "c"])  # 8 pieces, as the toy model
KINDS = {
    "ctc_greedy": StreamingCTCGreedySearch,
    "ctc_prefix": StreamingCTCPrefixSearch,
    "rescoring": TwoPassSearch,
    "joint": BlockJointSearch,
    "monotonic": MonotonicSearch,
    "segmental": StreamingSegmentalSearch,
}


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A language model, an n-gram model and phrases."""
    folder = tmp_path_factory.mktemp("fusion")
    torch.manual_seed(0)
    options = {"vocab_size": 8, "model_dim": 8, "num_layers": 1, "num_heads": 2, "feed_forward_dim": 8}
    config = {"_target_": "s2s.models.language_model.TransformerLanguageModel", **options}
    model = TransformerLanguageModel(**options)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.out.weight)
    LanguageModelBundle(model, TOKENIZER, config).save(folder / "lm")
    words = ["<unk>", "<s>", "</s>", "a", "b", SPACE, "c"]
    lines = ["\\data\\", "ngram 1=7", "ngram 2=2", "", "\\1-grams:", *(f"-0.8\t{word}\t-0.3" for word in words)]
    lines += ["", "\\2-grams:", "-0.2\ta b", "-0.1\tb c", "", "\\end\\"]
    (folder / "lm.arpa").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "phrases").write_text("a c\t1.5\nb\n", encoding="utf-8")
    return {
        "lm": str(folder / "lm"),
        "lm_weight": 0.4,
        "ngram": str(folder / "lm.arpa"),
        "ngram_weight": 0.5,
        "phrases": str(folder / "phrases"),
        "length_bonus": 0.3,
    }


@pytest.mark.parametrize("mode", KINDS)
@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=4)
def test_every_mode_finds_in_pieces_what_it_finds_offline(mode: str, lengths: list[int], seed: int) -> None:
    width = [] if mode in ("ctc_greedy", "monotonic") else ["decoding.beam_size=4", "decoding.nbest=3"]
    config = load_decoding_config([f"decoding={mode}", "decoding.chunk_size=16", *width])
    model = {"monotonic": monotonic_model, "segmental": segmental_model}.get(mode, toy_model)(8, seed)
    memory = toy_memory(lengths, seed)
    search = build_streaming_search(config, model, TOKENIZER)
    assert isinstance(search, KINDS[mode])
    offline = build_search(config, [model], TOKENIZER)(memory)
    for found, expected in zip(fed(search, memory, seed), offline, strict=True):
        same(found, expected, frames=False)


@pytest.mark.parametrize("mode", ["ctc_prefix", "rescoring", "joint"])
@given(lengths=st.lists(st.integers(1, 15), min_size=2, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_knows_nothing_of_the_audio_is_carried_along(
    fusion: dict[str, object], mode: str, lengths: list[int], seed: int
) -> None:
    config = load_decoding_config([f"decoding={mode}", "decoding.chunk_size=16"])
    config = replace(config, beam_size=4, nbest=3, **fusion)  # type: ignore[arg-type]
    model, memory = toy_model(8, seed), toy_memory(lengths, seed)
    search, offline = build_streaming_search(config, model, TOKENIZER), build_search(config, [model], TOKENIZER)
    expected = offline(memory)
    for streamed in (fed(search, memory, seed), sessions(search, memory, seed)):
        for found, best in zip(streamed, expected, strict=True):
            assert [h.tokens for h in found] == [h.tokens for h in best]
            assert [h.score for h in found] == pytest.approx([h.score for h in best], abs=1e-5)  # the LM is float32
    assert {"ngram", "phrases", "length"} < {name for h in expected[0] for name in h.scores}


def test_kenlm_is_carried_along(fusion: dict[str, object]) -> None:
    pytest.importorskip("kenlm", reason="the kenlm package is not installed")
    model, memory = toy_model(8), toy_memory([12, 7])
    scorers = {"kenlm": (KenLMScorer(str(fusion["ngram"]), TOKENIZER), 0.5)}
    offline = CTCPrefixBeamSearch(model.ctc, model.bos_id, model.eos_id, 3, scorers=scorers)
    streamed = sessions(StreamingCTCPrefixSearch(offline), memory, 0)
    for found, expected in zip(streamed, offline(memory), strict=True):
        same(found, expected, frames=False)


def test_blocks_are_the_chunks_of_the_encoder() -> None:
    for chunk_size, expected in ((None, 16), (4, 4)):
        search = build_streaming_search(DecodingConfig(beam_size=2, chunk_size=chunk_size), toy_model(8), TOKENIZER)
        assert isinstance(search, BlockJointSearch)
        assert search.block_size == expected


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"search": "sampling"}, r"search=sampling: is for whole utterances"),
        ({"ensemble": ["a", "b"]}, r"ensemble=\['a', 'b'\]: is for whole utterances"),
        ({"mbr": "wer"}, r"mbr=wer: is for whole utterances"),
        ({"max_compression_ratio": 2.4}, r"max_compression_ratio=2\.4: is for whole utterances"),
        ({"coverage_beta": 0.2}, r"coverage_beta=0\.2: is for whole utterances"),
        ({"attention": True}, r"attention=true: is for whole utterances"),
        ({"search": "segmental"}, r"search=segmental: this model's decoder is not segmental"),
        ({"search": "monotonic"}, r"search=monotonic: no head of this model's decoder stops"),
        ({"ctc_weight": 0.0}, r"ctc_weight=0\.0: expected more than 0 for a stream"),
        ({"beam_size": 9}, r"beam_size=9: expected 1 to 8, the size of the vocabulary"),
        ({"search": "ctc_prefix", "rescore": True, "reverse_weight": 0.3}, r"reverse_weight=0\.3: the model has no"),
    ],
)
def test_what_cannot_be_streamed_is_refused_by_its_key(values: dict[str, object], key: str) -> None:
    with pytest.raises(UserError, match=rf"decoding\.{key}"):
        build_streaming_search(DecodingConfig(**{"beam_size": 4, **values}), toy_model(8), TOKENIZER)  # type: ignore[arg-type]
