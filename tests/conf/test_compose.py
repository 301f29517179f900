from __future__ import annotations

from pathlib import Path

import pytest

from s2s.conf import compose, to_dataclass
from s2s.decoding.config import load_decoding_config
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.hybrid import HybridModel
from s2s.tokenizers.load import train_tokenizer
from s2s.training.config import TrainConfig, load_train_config, show


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    train_tokenizer("char", ["one two three"]).save(tmp_path / "tokenizer")
    return f"tokenizer={tmp_path / 'tokenizer'}"


def test_sizes_follow_from_tokenizer_and_features(tokenizer: str) -> None:
    config = load_train_config("train", [tokenizer, "features.num_mel_bins=40", "model=conformer_small"])
    assert config.vocab_size > 4
    assert config.model["vocab_size"] == config.model["decoder"]["vocab_size"] == config.vocab_size
    assert config.model["encoder"]["front"]["input_dim"] == config.model["normalise"]["num_bins"] == 40
    assert config.model["decoder"]["memory_dim"] == config.model["encoder"]["model_dim"] == 144


def test_a_config_of_ones_own_starts_from_those_of_s2s(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text(
        "defaults: [train, override model: conformer_small, _self_]\noptim: {learning_rate: 0.25}\n"
    )
    config = load_train_config("mine", [tokenizer, "optim.warmup_steps=7"], tmp_path / "conf")
    assert config.optim.learning_rate == 0.25
    assert config.optim.warmup_steps == 7
    assert config.model["encoder"]["num_layers"] == 4


def test_a_shipped_config_takes_parts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "conf" / "decoding").mkdir(parents=True)
    (tmp_path / "conf" / "decoding" / "narrow.yaml").write_text("search: beam\nbeam_size: 2\n")
    assert load_decoding_config(["decoding=narrow"], tmp_path / "conf").beam_size == 2
    assert load_decoding_config(["decoding=greedy"], tmp_path / "conf").beam_size == 1


def test_the_config_shown_is_the_whole_config(tokenizer: str) -> None:
    text = show(load_train_config("train", [tokenizer, "data.train=[a,b]"]))
    for line in ("learning_rate: 0.001", "  - a", "num_mel_bins: 80", "_target_: s2s.models.hybrid.HybridModel"):
        assert line in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optim.learning_rat=1",
            r"optim\.learning_rat: no such key in the config\. Did you mean 'optim\.learning_rate'",
        ),
        ("optm.learning_rate=1", r"optm\.learning_rate: no such key .* Did you mean 'optim\.learning_rate'"),
        ("modl.encoder.num_layers=1", r"modl\.encoder\.num_layers: no such key .* Did you mean 'model"),
        ("traning=1", r"traning: no such key .* Did you mean 'training'"),
        ("optim.learning_rate=fast", r"(?s)learning_rate.*'fast'"),
        ("training.max_epochs=1.5", r"(?s)max_epochs.*1\.5"),
        ("data.num_workers", r"'data\.num_workers': expected an override of the form key=value"),
        ("model=conformr", r"(?s)model/conformr.*conformer"),
        ("optim.betas=[0.9", r"\[0\.9"),
        ("optim.schedule=cosin", r"optim\.schedule=cosin"),
        ("training.precision=16", r"training\.precision=16: expected one of 32-true"),
        ("training.max_epochs=0", r"training\.max_epochs=0: expected at least 1"),
        ("features.num_mel_bins=-1", r"num_mel_bins"),
        ("data.skip=[no_txt]", r"no_txt"),
    ],
)
def test_a_wrong_override_is_named_in_one_error(tokenizer: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_train_config("train", [tokenizer, override])


@pytest.mark.parametrize(
    "override",
    [
        "model.encoder.attention.kind=relaxed",
        "model.encoder.attention={kind: relaxed}",
        "model.encoder.attention=[{kind: relaxed}]",
        "+model.encoder.attention.kind=relaxed",
        "++model.encoder.attention.kind=relaxed",
    ],
)
def test_a_key_of_the_model_that_no_yaml_has_needs_no_plus(tokenizer: str, override: str) -> None:
    attention = load_train_config("train", [tokenizer, override]).model["encoder"]["attention"]
    assert attention in ({"kind": "relaxed"}, [{"kind": "relaxed"}])


def test_keys_of_the_model_can_be_removed_and_its_file_chosen(tokenizer: str) -> None:
    small = ["model=conformer_small", "~model.encoder.kernel_size"]
    config = load_train_config("train", [tokenizer, *small])
    assert "kernel_size" not in config.model["encoder"]
    assert config.model["encoder"]["num_layers"] == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.encoder.attention.kind=relxed",
            r"^model\.encoder\.attention\.kind=relxed: expected one of softmax, relaxed, .* Did you mean 'relaxed'\?",
        ),
        ("model.encoder.attention.knd=relaxed", r"^model\.encoder\.attention\.knd: .* Did you mean 'kind'\?"),
        ("model.encoder.layers=1", r"^model\.encoder\.layers: ConformerEncoder .* Did you mean 'num_layers'\?"),
        ("model.encodr.num_layers=1", r"^model\.encodr: HybridModel has no such key\. Did you mean 'encoder'\?"),
        ("model.encoder.num_layers=two", r"^model\.encoder\.num_layers: expected int, got 'two'"),
    ],
)
def test_a_wrong_key_of_the_model_is_named_when_it_is_built(tokenizer: str, override: str, message: str) -> None:
    config = load_train_config("train", [tokenizer, override])
    with pytest.raises(UserError, match=message):
        build(config.model)


def test_a_new_key_needs_a_plain_mapping_above_it(tokenizer: str) -> None:
    with pytest.raises(UserError, match=r"optim\.model: no such key"):
        load_train_config("train", [tokenizer, "optim.model=1"])
    with pytest.raises(UserError, match=r"model"):  # decoding has no model in its config
        load_decoding_config(["model.encoder.attention.kind=relaxed"])


def test_a_config_that_does_not_exist_is_named_with_those_that_do(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\n")
    with pytest.raises(UserError, match=r"no min\.yaml in .* There are: mine"):
        load_train_config("min", [tokenizer], tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load_train_config("mine", [tokenizer], tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: [\n", r"mine\.yaml:2: not readable as YAML"),
        ("defaults: [train, _self_]\noptim: {learning_rat: 1}\n", r"optim\.learning_rat: .* 'optim\.learning_rate'"),
        ("defaults: [train, nosuch, _self_]\n", r"Could not load 'nosuch'"),
        (
            "defaults: [train, _self_]\noptim: {learning_rate: fast}\n",
            r"(?s)learning_rate.*'fast'|'fast'.*learning_rate",
        ),
    ],
)
def test_a_mistake_in_ones_own_config_is_one_error(tokenizer: str, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_train_config("mine", [tokenizer], tmp_path / "conf")


def test_composing_twice_gives_the_same(tokenizer: str) -> None:
    first = to_dataclass(compose("train", TrainConfig, [tokenizer]))
    assert first == to_dataclass(compose("train", TrainConfig, [tokenizer]))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["model=monotonic"], "monotonic"),
        (["model=monotonic", "model.decoder.cross_attention.lookback=none"], "monotonic"),
        (
            [
                "model=monotonic",
                "model.decoder.cross_attention.lookback=chunk",
                "model.decoder.cross_attention.lookback_frames=4",
            ],
            "monotonic",
        ),
        (
            [
                "model=monotonic",
                "model.decoder.cross_attention.num_heads=1",
                "model.decoder.alignment_loss.measure=dal",
            ],
            "monotonic",
        ),
        (["model=monotonic", "model.decoder.cross_attention.head_wait=8"], "monotonic"),
        (["model=sparse_monotonic"], "softmax"),
    ],
)
def test_models_with_monotonic_attention_are_built_from_their_configs(
    tokenizer: str, options: list[str], kind: str
) -> None:
    small = ["model.encoder.model_dim=8", "model.encoder.num_layers=1", "model.encoder.front.channels=2"]
    small += ["model.encoder.feed_forward_dim=8", "model.decoder.model_dim=8", "model.decoder.feed_forward_dim=8"]
    model = build(load_train_config("train", [tokenizer, *options, *small]).model)
    assert isinstance(model, HybridModel)
    assert model.decoder.layers[0].memory_attention.config.kind == kind  # type: ignore[attr-defined]
    assert model.decoder.alignment_loss is not None  # type: ignore[attr-defined]
