"""What transformers writes gives, read into our model, the same numbers and the same texts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_seq2seq import random_bart, random_marian, write, write_bart_tokenizer, write_marian_tokenizer
from torch import Tensor

from s2s.decoding.build import build_search
from s2s.errors import UserError
from s2s.models.translation_bundle import TranslationBundle
from s2s.nn.lengths import valid_mask
from s2s.pretrained import seq2seq
from s2s.pretrained.seq2seq import find_checkpoint, import_seq2seq, read_seq2seq
from s2s.translation import Translator, decoding_of, load_translation_model

pytest.importorskip("transformers")
NO_LOOPS = 2  # n-grams of so many tokens come once, or random weights go round in circles
LONGEST = 20  # tokens of a text that is compared


def marian(folder: Path, separate: bool = False, seed: int = 0, **options: Any) -> Any:
    """A Marian in a folder, as transformers holds it."""
    source_size, target_size = write_marian_tokenizer(folder, separate)
    own = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": target_size} if separate else {}
    model = random_marian(source_size, seed, **own, **options)
    write(model, folder, no_repeat_ngram_size=NO_LOOPS)
    return model


def bart(folder: Path, forced_bos: bool = True, seed: int = 0, **options: Any) -> Any:
    """The same of BART, which is made to begin with <s> or not."""
    model = random_bart(write_bart_tokenizer(folder), seed, **options)
    write(model, folder, no_repeat_ngram_size=NO_LOOPS, forced_bos_token_id=0 if forced_bos else None)
    return model


def sources(model: Any, lengths: list[int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = model.config.vocab_size
    return torch.randint(4, size - 1, (len(lengths), max(lengths)), generator=generator), torch.tensor(lengths)


def begin(model: Any) -> list[int]:
    """The tokens that each of their texts begins with."""
    forced = model.generation_config.forced_bos_token_id
    return [model.config.decoder_start_token_id, *([] if forced is None else [forced])]


@torch.no_grad()
def differences(ours: TranslationBundle, theirs: Any, lengths: list[int], seed: int) -> tuple[float, float]:
    """The largest of encoder states and of log-probabilities, in float64."""
    source, sizes = sources(theirs, lengths, seed)
    mask = valid_mask(sizes, source.size(1))
    first = begin(theirs)
    tokens = torch.randint(ours.model.vocab_size, (len(lengths), 6), generator=torch.Generator().manual_seed(seed))
    tokens[:, : len(first)] = torch.tensor(first)
    dtype = theirs.dtype
    answer = theirs.double()(input_ids=source, attention_mask=mask.long(), decoder_input_ids=tokens)
    theirs.to(dtype)
    model = ours.model.double()
    memory = model.encode(source, sizes)
    log_probs = model.decoder(memory, tokens[:, len(first) - 1 :])
    states = (memory.states - answer.encoder_last_hidden_state)[mask].abs().max()
    return states.item(), (log_probs - answer.logits.log_softmax(-1)[:, len(first) - 1 :]).abs().max().item()


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=10)
@given(
    lengths=LENGTHS,
    seed=st.integers(0, 99),
    separate=st.booleans(),
    activation=st.sampled_from(["swish", "relu", "gelu"]),
    scale=st.booleans(),
    shards=st.booleans(),
)
def test_marian_gives_the_logits_of_transformers(
    lengths: list[int],
    seed: int,
    separate: bool,
    activation: str,
    scale: bool,
    shards: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("marian")
    theirs = marian(folder, separate, seed, activation_function=activation, scale_embedding=scale)
    if shards:
        (folder / "model.safetensors").unlink()
        theirs.save_pretrained(folder, max_shard_size="10KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert max(differences(read_seq2seq(folder), theirs, lengths, seed)) < 1e-12


@settings(max_examples=10)
@given(lengths=LENGTHS, seed=st.integers(0, 99), forced_bos=st.booleans(), scale=st.booleans())
def test_bart_gives_the_logits_of_transformers(
    lengths: list[int], seed: int, forced_bos: bool, scale: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bart")
    theirs = bart(folder, forced_bos, seed, scale_embedding=scale)
    assert max(differences(read_seq2seq(folder), theirs, lengths, seed)) < 1e-12


@pytest.mark.parametrize("kind", [marian, bart])
def test_an_output_matrix_of_its_own_is_read(kind: Any, tmp_path: Path) -> None:
    theirs = kind(tmp_path, tie_word_embeddings=False)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    found = read_seq2seq(tmp_path)
    assert any(name.endswith("decoder.out.weight") or name == "decoder.out.weight" for name in found.model.state_dict())
    assert max(differences(found, theirs, [5, 3], 0)) < 1e-12


@pytest.mark.parametrize("kind", [marian, bart])
def test_a_checkpoint_of_the_model_without_its_head_is_read(kind: Any, tmp_path: Path) -> None:
    theirs = kind(tmp_path)
    theirs.final_logits_bias.zero_()
    theirs.model.save_pretrained(tmp_path)  # no "model." before the names, and no bias
    assert max(differences(read_seq2seq(tmp_path), theirs, [5, 3], 0)) < 1e-12


@pytest.mark.parametrize("kind", [marian, bart])
def test_an_old_checkpoint_with_every_copy_of_the_embedding_is_read_without_unpickling(
    kind: Any, tmp_path: Path
) -> None:
    theirs = kind(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert max(differences(read_seq2seq(tmp_path), theirs, [5, 3], 0)) < 1e-12
    torch.save({"shared.weight": {"a": 1}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin: 'shared\.weight' is no tensor"):
        read_seq2seq(tmp_path)


def test_weights_keep_their_types(tmp_path: Path) -> None:
    marian(tmp_path).half().save_pretrained(tmp_path)
    found = read_seq2seq(tmp_path).model.state_dict()
    types = {name: tensor.dtype for name, tensor in found.items()}
    assert {name for name, dtype in types.items() if dtype == torch.float32} == {  # no weights, they are computed
        "encoder.positions.weight",
        "decoder.positions.weight",
    }
    assert set(types.values()) == {torch.float16, torch.float32}
    loaded = load_translation_model(tmp_path).model
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def texts(model: Any, source: Tensor, sizes: Tensor, **options: Any) -> list[dict[tuple[int, ...], float] | None]:
    """The texts that transformers finds for each source, without begin and end, with their scores.

    None where one of them is longer than `LONGEST`: theirs need no end at their greatest length.
    """
    mask = valid_mask(sizes, source.size(1)).long()
    more = {"max_length": LONGEST + 9, "do_sample": False, "return_dict_in_generate": True, "output_scores": True}
    found = model.generate(input_ids=source, attention_mask=mask, **more, **options)
    count, eos = options.get("num_return_sequences", 1), model.config.eos_token_id
    rows = [row[len(begin(model)) :] for row in found.sequences.tolist()]
    scores = found.sequences_scores.tolist() if count > 1 else [0.0] * len(rows)
    ended = [eos in row[: LONGEST + 1] for row in rows]
    pairs = [(tuple(row[: row.index(eos)]) if eos in row else (), s) for row, s in zip(rows, scores, strict=True)]
    return [dict(pairs[i : i + count]) if all(ended[i : i + count]) else None for i in range(0, len(rows), count)]


def searched(bundle: TranslationBundle, source: Tensor, sizes: Tensor, **options: Any) -> list[dict[Any, float]]:
    """The same of our search."""
    options = {"max_length_ratio": 99.0, "max_length": LONGEST + 9, **options}
    search = build_search(replace(decoding_of(bundle.decoding), **options), [bundle.model], bundle.tokenizer)
    return [{tuple(h.tokens): h.score for h in found} for found in search(bundle.model.encode(source, sizes))]


MODELS = st.sampled_from([(marian, {}), (marian, {"separate": True}), (bart, {"forced_bos": False}), (bart, {})])


def compare(which: Any, lengths: list[int], seed: int, folder: Path, beam_size: int, length_power: float) -> int:
    """How many sources have the same texts in both searches, with the same scores; the others have one without end."""
    kind, options = which
    theirs = kind(folder, seed=seed, **options).double()
    ours = read_seq2seq(folder)
    ours.model.double()
    source, sizes = sources(theirs, lengths, seed)
    beam = {"num_beams": beam_size, "num_return_sequences": beam_size, "length_penalty": length_power}
    expected = texts(theirs, source, sizes, **(beam | {"early_stopping": True} if beam_size > 1 else {}))
    found = searched(ours, source, sizes, beam_size=beam_size, nbest=beam_size, length_power=length_power)
    compared = [(a, b) for a, b in zip(expected, found, strict=True) if a is not None]
    for best, own in compared:
        assert set(own) == set(best)
        if beam_size > 1:  # theirs are float32
            assert own == pytest.approx(best, abs=1e-4)
    return len(compared)


@settings(max_examples=6)
@given(which=MODELS, lengths=LENGTHS, seed=st.integers(0, 99))
def test_greedy_search_finds_the_text_of_transformers(
    which: Any, lengths: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(compare(which, lengths, seed, tmp_path_factory.mktemp("model"), 1, 1.0))


@settings(max_examples=6)
@given(which=MODELS, lengths=LENGTHS, seed=st.integers(0, 99), beam_size=st.integers(2, 4))
def test_beam_search_finds_the_texts_of_transformers_with_their_sums(
    which: Any, lengths: list[int], seed: int, beam_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(compare(which, lengths, seed, tmp_path_factory.mktemp("model"), beam_size, 0.0))


@settings(max_examples=6)
@given(
    which=MODELS.filter(lambda which: which != (bart, {})),  # theirs count a forced <s>, which we do not score
    lengths=LENGTHS,
    seed=st.integers(0, 99),
    beam_size=st.integers(2, 4),
    length_power=st.sampled_from([0.6, 1.0, 2.0]),
)
def test_beam_search_finds_the_texts_of_transformers_with_their_scores_by_length(
    which: Any,
    lengths: list[int],
    seed: int,
    beam_size: int,
    length_power: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assume(compare(which, lengths, seed, tmp_path_factory.mktemp("model"), beam_size, length_power))


def test_settings_of_the_search_are_read(tmp_path: Path) -> None:
    write_marian_tokenizer(tmp_path)
    settings = {"num_beams": 4, "length_penalty": 0.8, "no_repeat_ngram_size": 3, "min_length": 5, "max_length": 50}
    write(marian(tmp_path), tmp_path, **settings)
    found = read_seq2seq(tmp_path).decoding
    # Their lengths count <pad> at the begin, and the greatest one </s>.
    expected = {"beam_size": 4, "length_power": 0.8, "no_repeat_ngram": 3, "min_length": 4, "max_length": 48}
    assert found == expected
    write(bart(tmp_path), tmp_path, **settings)  # </s> <s> at the begin
    assert read_seq2seq(tmp_path).decoding == expected | {"min_length": 3, "max_length": 47}
    change(tmp_path / "generation_config.json", length_penalty="long")
    with pytest.raises(UserError, match=r"generation_config\.json: length_penalty: 'long', expected a number"):
        read_seq2seq(tmp_path)


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (marian, {"model_type": "t5"}, r"config\.json: model_type: 't5', expected 'marian' or 'bart'"),
        (bart, {"model_type": "mbart"}, r"config\.json: model_type: 'mbart', expected 'marian' or 'bart'"),
        (marian, {"activation_function": "gelu_new"}, r"activation_function: 'gelu_new', expected relu, gelu"),
        (marian, {"normalize_before": True}, r"normalize_before: True, expected False, the only marian"),
        (marian, {"normalize_embedding": True}, r"normalize_embedding: True, expected False"),
        (marian, {"static_position_embeddings": False}, r"static_position_embeddings: False, expected True"),
        (bart, {"normalize_before": True}, r"normalize_before: True, expected False, the only bart"),
        (bart, {"add_final_layer_norm": True}, r"add_final_layer_norm: True, expected False"),
        (bart, {"normalize_embedding": False}, r"normalize_embedding: False, expected True"),
        (marian, {"d_model": None}, r"d_model: None, expected a whole number, 1 or more"),
        (marian, {"encoder_attention_heads": "4"}, r"encoder_attention_heads: '4', expected a whole number"),
        (marian, {"encoder_layers": 3}, r"'encoder\.layers\.2\.\S+' \(of 16 tensors\) .* does not fit config\.json"),
        (marian, {"encoder_layers": 1}, r"'encoder\.layers\.1\.\S+' \(of 16 tensors\)"),
        (marian, {"d_model": 8}, r"does not fit config\.json"),
        (bart, {"max_position_embeddings": 32}, r"'encoder\.positions\.weight' \(of 2 tensors\)"),
        (
            bart,
            {"vocab_size": 200},
            r"not a vocabulary of BART: token 265 is not below the size of the vocabulary, 200",
        ),
        (marian, {"decoder_vocab_size": 9, "share_encoder_decoder_embeddings": False}, r"below 9"),
        (marian, {"eos_token_id": [0, 1]}, r"eos_token_id: \[0, 1\], expected a whole number"),
        (marian, {"eos_token_id": 1}, r"eos_token_id: 1, but </s> of the tokenizer is 0; give the model's own"),
        (marian, {"decoder_start_token_id": 999}, r"decoder_start_token_id: 999, expected a token below"),
    ],
)
def test_what_is_not_supported_is_named(kind: Any, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    kind(tmp_path)
    for name in ("config.json", "generation_config.json"):
        change(tmp_path / name, **settings)
    with pytest.raises(UserError, match=message):
        read_seq2seq(tmp_path)


def test_a_checkpoint_of_the_other_kind_is_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    marian(tmp_path)
    with pytest.raises(UserError, match=r"model_type: 'marian', expected 'bart'"):
        read_seq2seq(tmp_path, "bart")


def test_files_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    marian(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(UserError, match=r"model\.safetensors: not a whole safetensors file"):
        read_seq2seq(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        read_seq2seq(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    for name in ("source.spm", "target.spm", "vocab.json", "config.json"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match=rf"{re.escape(name)}: cannot read it: No such file"):
            read_seq2seq(tmp_path)
        (tmp_path / name).write_bytes(content)
    read_seq2seq(tmp_path)


def test_a_tensor_too_many_is_refused(tmp_path: Path) -> None:
    marian(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "model.encoder.layers.0.adapter.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"'encoder\.layers\.0\.adapter\.weight' \(of 1 tensors\)"):
        read_seq2seq(tmp_path)


def test_what_is_no_checkpoint_is_refused_with_what_is_accepted(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "nothing"), "opus-mt"):
        with pytest.raises(UserError, match=r"no translation model; expected a translation bundle, a folder of Marian"):
            find_checkpoint(name)


def test_a_repository_of_the_hub_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marian(tmp_path)
    asked: list[str] = []
    files: list[str] = []

    def from_hub(name: str, patterns: Sequence[str]) -> Path:
        asked.append(name)
        files.extend(patterns)
        return tmp_path

    monkeypatch.setattr(seq2seq, "from_hub", from_hub)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("Helsinki-NLP/opus-mt-en-de") == tmp_path
    assert asked == ["Helsinki-NLP/opus-mt-en-de"]
    assert all(any(Path(name).match(pattern) for pattern in files) for name in os.listdir(tmp_path))


@pytest.mark.parametrize("kind", [marian, bart])
def test_a_bundle_translates_as_the_checkpoint_it_was_made_of(kind: Any, tmp_path: Path) -> None:
    kind(tmp_path / "theirs")
    import_seq2seq(str(tmp_path / "theirs"), tmp_path / "mine", "mine", kind.__name__)
    card = (tmp_path / "mine" / "README.md").read_text()
    assert f"{kind.__name__.capitalize()} of 0.0" in card
    assert "s2s translate --model mine" in card
    ours, theirs = (load_translation_model(tmp_path / name) for name in ("mine", "theirs"))
    assert ours.decoding == theirs.decoding
    assert all(a.equal(b) for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True))
    text = ["the little cat", "we see"]
    found = [[(t.text, t.score) for t in Translator(bundle).translate(text)] for bundle in (ours, theirs)]
    assert found[0] == found[1]
    assert all(text for text, _ in found[0])
