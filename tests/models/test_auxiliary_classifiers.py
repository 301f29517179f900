from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import BOS, EOS, toy_memory, toy_model, toy_source

from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig
from s2s.errors import UserError
from s2s.models.auxiliary_classifiers import ClassifiersConfig
from s2s.models.build import build
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.hybrid import HybridModel
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.tokenizers.load import train_tokenizer

TARGET, SIZES = torch.tensor([[4, 5, 5], [5, 0, 0]]), torch.tensor([3, 1])
CONFIG = {
    "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
    "vocab_size": 6,
    "memory_dim": 16,
    "model_dim": 16,
    "num_layers": 3,
    "num_heads": 2,
    "feed_forward_dim": 24,
    "dropout": 0.0,
}
TWO = {"layers": [2, 1], "weights": [0.3, 0.2]}


def decoder(classifiers: Any = TWO, **options: Any) -> Any:
    torch.manual_seed(0)
    model: Any = build({**CONFIG, **options, "classifiers": classifiers}).double().eval()
    if model.classifiers is not None:
        nn.init.normal_(model.classifiers.mix)
    return model


def hybrid(own: TransformerDecoder) -> HybridModel:
    plain = toy_model()
    return HybridModel(6, plain.normalise, plain.encoder, own, label_smoothing=0.1).double()  # type: ignore[arg-type]


def logits_by_hand(model: Any, memory: Any, tokens: Tensor) -> list[Tensor]:
    """Logits (U,V) of the classifiers of layers 2, 1 and 3, of one utterance and one row."""
    seen: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda *given: seen.append(given[2][0][0])) for layer in model.layers]
    model(memory, tokens)
    for hook in hooks:
        hook.remove()
    first, second, third = seen
    last = F.layer_norm(third, [16], model.norm.weight, model.norm.bias) @ model.out.weight.T + model.out.bias
    out = model.classifiers.out
    return [second @ out[0].weight.T, first @ out[1].weight.T, last]


def test_the_loss_is_that_of_all_classifiers() -> None:
    model = hybrid(decoder()).train()
    memory = model.eval().encode(*toy_source([40, 25]))
    sums, counted = [0.0] * 3, 0
    for b, target in enumerate([[4, 5, 5], [5]]):
        every = logits_by_hand(model.decoder, memory.rows(b, b + 1), torch.tensor([[BOS, *target]]))
        labels = torch.tensor([*target, EOS])
        counted += len(labels)
        for i, logits in enumerate(every):
            sums[i] += F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")
    found = model.train().loss(memory, TARGET, SIZES)
    expected = (0.3 * sums[0] + 0.2 * sums[1] + 0.5 * sums[2]) / counted
    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(found.attention, expected, **close)
    torch.testing.assert_close(found.parts["attention_layer_2"], sums[0] / counted, **close)
    torch.testing.assert_close(found.parts["attention_layer_1"], sums[1] / counted, **close)
    evaluated = model.eval().loss(memory, TARGET, SIZES)
    torch.testing.assert_close(evaluated.attention, sums[2] / counted, **close)
    assert evaluated.parts == {}


def test_an_encoder_decoder_learns_as_a_hybrid_does() -> None:
    own = decoder()
    both = hybrid(own)
    model = EncoderDecoder(6, both.encoder, own)  # type: ignore[arg-type]
    source, lengths = toy_source([40, 25])
    for training, names in ((True, {"attention_layer_2", "attention_layer_1", "attention_mixed"}), (False, set())):
        model.train(training).encoder.eval()  # type: ignore[attr-defined]
        expected = both.loss(both.encoder(source, lengths), TARGET, SIZES)
        assert expected.parts.keys() == names
        torch.testing.assert_close(model(source, lengths, TARGET, SIZES), expected.attention)


@pytest.mark.parametrize("per_token", [False, True])
def test_classifiers_answer_together_by_their_weights(per_token: bool) -> None:
    model, memory = decoder({**TWO, "per_token": per_token}), toy_memory([5, 3])
    tokens = torch.tensor([[2, 4, 5], [2, 3, 3]])
    together, alone = model.mixing()(memory, tokens), model(memory, tokens)
    for b in range(2):
        every = logits_by_hand(model, memory.rows(b, b + 1), tokens[b : b + 1])
        mixed = torch.zeros(3, 6).double()
        for u in range(3):
            for v in range(6):
                for d in range(3):
                    mixed[u, v] += model.classifiers.mix[d, v if per_token else 0] * every[d][u, v]
        torch.testing.assert_close(together[b], (mixed.exp() / mixed.exp().sum(dim=1, keepdim=True)).log())
        torch.testing.assert_close(alone[b], every[2].log_softmax(dim=1))


def test_weights_of_classifiers_begin_as_those_of_their_losses() -> None:
    torch.manual_seed(0)
    model: Any = build({**CONFIG, "classifiers": {**TWO, "per_token": True}})
    torch.testing.assert_close(model.classifiers.mix, torch.tensor([0.3, 0.2, 0.5]).unsqueeze(1).repeat(1, 6))


def test_weights_learn_from_classifiers_that_do_not_notice() -> None:
    model = hybrid(decoder()).train()
    memory = model.encode(*toy_source([40, 25]))
    own: Any = model.decoder
    loss = model.loss(memory, TARGET, SIZES)
    names = [name for name, _ in own.named_parameters()]
    found = dict(
        zip(names, torch.autograd.grad(loss.attention, list(own.parameters()), retain_graph=True), strict=True)
    )
    mixed = torch.autograd.grad(loss.parts["attention_mixed"], list(own.parameters()), allow_unused=True)
    assert [name for name, gradient in zip(names, mixed, strict=True) if gradient is not None] == ["classifiers.mix"]
    torch.testing.assert_close(found["classifiers.mix"], mixed[names.index("classifiers.mix")])
    weighted = [loss.parts["attention_layer_2"], loss.parts["attention_layer_1"]]
    last = hybrid(own).eval().loss(memory, TARGET, SIZES).attention  # the last classifier alone
    expected = 0.3 * weighted[0] + 0.2 * weighted[1] + 0.5 * last
    gradients = torch.autograd.grad(expected, list(own.parameters()), allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("fusion", [None, {"mode": "soft"}])
def test_together_a_token_at_a_time_gives_the_numbers_of_all_at_once(per_token: bool, fusion: Any) -> None:
    model = decoder({**TWO, "per_token": per_token}, surface_fusion=fusion).mixing()
    memory, tokens = toy_memory([5, 3]), torch.tensor([[2, 4, 5, 1], [2, 3, 3, 4], [2, 5, 1, 1], [2, 4, 4, 5]])
    expected, state = model(memory, tokens), model.start(memory, 2)
    for u in range(4):
        found, state = model.step(tokens[:, u], state)
        torch.testing.assert_close(found, expected[:, u])


@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_padding_changes_neither_loss_nor_gradients(padding: float) -> None:
    def loss_and_gradient(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        model = hybrid(decoder({**TWO, "per_token": True}))
        model.train()
        model.encoder.eval()  # type: ignore[attr-defined]
        loss = model(source, torch.tensor([40, 25]), target, torch.tensor([2, 1])).total
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    expected, gradient = loss_and_gradient(toy_source([40, 25])[0], torch.tensor([[4, 5], [5, 0]]))
    padded = toy_source([40, 25], padding=padding, more=11)[0]
    found, found_gradient = loss_and_gradient(padded, torch.tensor([[4, 5, 3], [5, 3, 3]]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-4, atol=1e-5)


def test_without_classifiers_a_decoder_is_as_it_was() -> None:
    plain, other = decoder(None), decoder()
    new = {"classifiers.mix", "classifiers.out.0.weight", "classifiers.out.1.weight"}
    assert set(other.state_dict()) - set(plain.state_dict()) == new
    plain.load_state_dict({k: v for k, v in other.state_dict().items() if k not in new})
    memory, tokens = toy_memory([5, 3]), torch.tensor([[2, 4, 5], [2, 3, 3]])
    torch.testing.assert_close(plain(memory, tokens), other(memory, tokens))


@pytest.mark.parametrize("search", ["beam", "sampling", "ctc_prefix"])
def test_a_search_asks_all_classifiers_on_request(search: str) -> None:
    model, tokenizer = hybrid(decoder()).eval(), train_tokenizer("char", ["ab"])
    memory = model.encode(*toy_source([60, 40]))
    options: dict[str, Any] = {"rescore": True} if search == "ctc_prefix" else {}
    last, mixed = (
        build_search(DecodingConfig(search=search, beam_size=4, **options, **more), [model], tokenizer)(memory)  # type: ignore[arg-type]
        for more in ({}, {"mix_classifiers": True})
    )
    name = "attention_rescoring" if options else "attention"
    for found, own in ((last, model.decoder), (mixed, model.decoder.mixing())):  # type: ignore[attr-defined]
        for b, hypotheses in enumerate(found):
            tokens = torch.tensor([[BOS, *hypotheses[0].tokens]])
            scores = own(memory.rows(b, b + 1), tokens)[0]
            labels = torch.tensor([*hypotheses[0].tokens, EOS])
            expected = scores.gather(1, labels.unsqueeze(1)).sum()
            assert hypotheses[0].scores[name] == pytest.approx(expected.item(), rel=1e-5)
    assert [h[0].score for h in last] != [h[0].score for h in mixed]


def test_the_decoder_that_asks_all_is_of_the_same_parameters() -> None:
    model = decoder()
    assert [id(p) for p in model.mixing().parameters()] == [id(p) for p in model.parameters()]
    assert not model.mixes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "ctc_greedy"}, r"decoding\.mix_classifiers=True: has no effect with search=ctc_greedy"),
        ({"search": "ctc_prefix"}, r"decoding\.mix_classifiers=True: has no effect with search=ctc_prefix"),
        ({}, r"decoding\.mix_classifiers=true: the decoder has no auxiliary classifiers; leave it out"),
    ],
)
def test_asking_all_where_there_is_one_is_refused(options: dict[str, Any], message: str) -> None:
    model, tokenizer = toy_model(), train_tokenizer("char", ["ab"])
    with pytest.raises(UserError, match=message):
        build_search(DecodingConfig(mix_classifiers=True, beam_size=2, **options), [model], tokenizer)


@pytest.mark.parametrize(
    ("classifiers", "message"),
    [
        ({"layers": [3], "weights": [0.5]}, r"classifiers\.layers=\[3\]: expected .* from 1 to 2"),
        ({"layers": [0], "weights": [0.5]}, r"classifiers\.layers=\[0\]: expected"),
        ({"layers": [1], "weights": [1.5]}, r"model\.classifiers\.weights=\[1\.5\]: expected shares"),
        ({"layers": [1], "weights": [-0.5]}, r"model\.classifiers\.weights=\[-0\.5\]: expected shares"),
        ({"layers": [1, 2], "weights": [0.6, 0.6]}, r"weights=\[0\.6, 0\.6\]: .* together at most 1"),
        ({"layers": [1, 2], "weights": [0.6]}, r"weights=\[0\.6\]: expected 2, one for each of the layers"),
        ({"layers": [1]}, r"model\.classifiers: ClassifiersConfig needs weights"),
        ({"layers": [1], "weight": [0.5]}, r"model\.classifiers\.weight: .* Did you mean 'weights'"),
    ],
)
def test_a_wrong_config_is_refused(classifiers: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decoder(classifiers)


def test_shares_that_are_all_leave_nothing_to_the_last_layer() -> None:
    assert ClassifiersConfig([1, 2], [0.5, 0.5]).weights == [0.5, 0.5]
