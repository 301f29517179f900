"""What every encoder promises: it trains, comes out of a shipped config, is stored, and reads text as well."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import toy_source

from s2s import conf
from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.normalise import GlobalNormalise
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.hybrid import HybridModel
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.tokenizers.load import train_tokenizer
from s2s.training.config import load_train_config

MODELS = "s2s.models."
ENCODERS: dict[str, dict[str, Any]] = {
    "transformer": {"_target_": f"{MODELS}transformer_encoder.TransformerEncoder", "feed_forward_dim": 24},
    "conformer": {"_target_": f"{MODELS}conformer.ConformerEncoder", "feed_forward_dim": 24, "kernel_size": 5},
    "branchformer": {"_target_": f"{MODELS}branchformer.BranchformerEncoder", "gating_dim": 24, "kernel_size": 5},
    "lstm": {"_target_": f"{MODELS}lstm_encoder.LSTMEncoder", "pyramid": [2]},
}
WITH_FEED_FORWARD = [name for name in ENCODERS if name != "lstm"]
FRONTS: dict[str, dict[str, Any]] = {
    "separable by 8": {"factor": 8, "separable": True},
    "by 4": {"factor": 4},
    "linear": {"factor": 1},
}
TEXT = {"_target_": "s2s.nn.embedding.TokenFront", "vocab_size": 9, "model_dim": 16}


def features(bins: int = 8, **options: Any) -> dict[str, Any]:
    target = "s2s.nn.subsampling.ConvolutionSubsampling"
    return {"_target_": target, "input_dim": bins, "model_dim": 16, "channels": 4, **options}


def config(name: str, front: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**ENCODERS[name], "front": front, "model_dim": 16, "num_layers": 2, **options}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("name", ENCODERS)
def test_a_few_steps_lower_the_loss(name: str, front: str) -> None:
    torch.manual_seed(0)
    encoder = build(config(name, features(**FRONTS[front]), dropout=0.0))
    model = HybridModel(6, GlobalNormalise(8), encoder, TransformerDecoder(6, 16, 16, 1, 2, 24, dropout=0.0))
    batch = [x.float() if x.is_floating_point() else x for x in toy_source([50, 33])]
    target = torch.tensor([[4, 5], [5, 0]]), torch.tensor([2, 1])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = model(*batch, *target).total
        optimizer.zero_grad()
        loss.backward()
        without = [n for n, p in model.named_parameters() if p.grad is None]
        assert not without
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_text_is_encoded_the_same_alone_and_in_a_batch(name: str) -> None:
    torch.manual_seed(0)
    model = build(config(name, TEXT)).double().eval()
    texts = [torch.randint(9, (n,)) for n in (7, 1, 12)]
    batch = torch.full((3, 15), 3)
    for row, text in zip(batch, texts, strict=True):
        row[: len(text)] = text
    together = model(batch, torch.tensor([7, 1, 12]))
    for b, text in enumerate(texts):
        alone = model(text[None], torch.tensor([len(text)]))
        assert together.lengths[b] == alone.lengths[0] == alone.states.size(1)
        torch.testing.assert_close(together.states[b, : alone.lengths[0]], alone.states[0])


@pytest.mark.parametrize("name", WITH_FEED_FORWARD)
def test_a_shared_feed_forward_is_that_of_every_layer(name: str) -> None:
    torch.manual_seed(0)
    shared = build(config(name, features(), feed_forward_dim=32, shared_feed_forward=True)).double().eval()
    plain = build(config(name, features(), feed_forward_dim=32)).double().eval()
    stored = shared.state_dict()
    assert [key for key in stored if "expand.weight" in key and "gating" not in key] == ["feed_forward.expand.weight"]

    def source_of(key: str) -> str:
        return re.sub(r"^(layers|blocks)\.\d+\.feed_forward(_in|_out)?\.", "feed_forward.", key)

    plain.load_state_dict({key: stored[source_of(key)] for key in plain.state_dict()})
    source = toy_source([40, 25])
    torch.testing.assert_close(shared(*source).states, plain(*source).states)
    shared(*source).states.sum().backward()
    plain(*source).states.sum().backward()
    own = [p.grad for key, p in plain.named_parameters() if source_of(key) == "feed_forward.expand.weight"]
    found = dict(shared.named_parameters())["feed_forward.expand.weight"].grad
    torch.testing.assert_close(found, sum(own))
    with pytest.raises(UserError, match=r"feed_forward_dim=0: expected at least 1"):
        build(config(name, features(), feed_forward_dim=0, shared_feed_forward=True))


@pytest.mark.parametrize(("name", "shared"), [*product(ENCODERS, (False,)), *product(WITH_FEED_FORWARD, (True,))])
def test_a_bundle_read_back_encodes_as_before(name: str, shared: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer("char", ["one two"])
    front = features(23, factor=8, separable=True)
    decoder = {"_target_": f"{MODELS}transformer_decoder.TransformerDecoder", "model_dim": 16, "num_layers": 1}
    decoder |= {"vocab_size": tokenizer.vocab_size, "memory_dim": 16, "num_heads": 2, "feed_forward_dim": 0}
    model_config = {
        "_target_": f"{MODELS}hybrid.HybridModel",
        "vocab_size": tokenizer.vocab_size,
        "normalise": {"_target_": "s2s.audio.normalise.GlobalNormalise", "num_bins": 23},
        "encoder": config(name, front, **({"shared_feed_forward": True} if shared else {})),
        "decoder": decoder,
    }
    model = build(model_config).eval()
    assert isinstance(model, HybridModel)
    fbank = Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=23))
    Bundle(model, tokenizer, fbank, model_config).save(tmp_path / "bundle")
    source, lengths = torch.randn(2, 60, 23), torch.tensor([60, 31])
    found = load_bundle(tmp_path / "bundle").model.encode(source, lengths)
    torch.testing.assert_close(found.states, model.encode(source, lengths).states)


def test_a_shared_feed_forward_is_exported_with_its_encoder() -> None:
    class States(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, source: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.model(source, lengths).states
            return states

    torch.manual_seed(0)
    for name in WITH_FEED_FORWARD:
        model = build(config(name, features(), shared_feed_forward=True)).double().eval()
        source = toy_source([30])
        exported = torch.export.export(States(model), source).module()
        torch.testing.assert_close(exported(*source), model(*source).states)


@pytest.mark.parametrize("name", ["conformer", "conformer_small", "fast_conformer", "branchformer", "lstm"])
def test_a_shipped_config_has_the_parameters_that_it_says(name: str, tmp_path: Path) -> None:
    train_tokenizer("char", ["one two"]).save(tmp_path)
    model = build(load_train_config("train", [f"tokenizer={tmp_path}", f"model={name}"]).model)
    assert isinstance(model, HybridModel)
    first = (Path(conf.__file__).parent / "model" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    said = re.search(r"([\d.]+) M parameters", first)
    assert said is not None
    count = sum(p.numel() for p in model.encoder.parameters()) / 1e6  # type: ignore[attr-defined]
    assert said[1] == f"{count:.1f}"


def test_fast_conformer_takes_the_attention_its_config_shows_for_long_recordings(tmp_path: Path) -> None:
    train_tokenizer("char", ["one two"]).save(tmp_path)
    text = (Path(conf.__file__).parent / "model" / "fast_conformer.yaml").read_text(encoding="utf-8")
    shown = re.search(r"# attention: (\{.*\})", text)
    assert shown is not None
    override = f"model.encoder.attention={shown[1]}"
    small = ["model=fast_conformer", "model.encoder.num_layers=1", "model.encoder.model_dim=16", override]
    model = build(load_train_config("train", [f"tokenizer={tmp_path}", *small]).model)
    assert model.encoder.subsampling_factor == 8  # type: ignore[union-attr]
    reach = model.encoder.blocks[0].attention.reach  # type: ignore[union-attr, index]
    assert (reach.left, reach.right, reach.global_frames) == (128, 128, 1)  # type: ignore[union-attr]
