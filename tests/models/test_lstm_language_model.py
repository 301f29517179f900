from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import BOS

from s2s.errors import UserError
from s2s.models.lstm_language_model import LSTMLanguageModel


def language_model(seed: int = 0, tie_output: bool = False) -> LSTMLanguageModel:
    torch.manual_seed(seed)
    return LSTMLanguageModel(7, 12, 2, 0.1, tie_output=tie_output).double().eval()


def plain(model: LSTMLanguageModel, tokens: list[int]) -> Tensor:
    """log P (U,V) after each token, by the equations of Graves 2013 without peepholes, one number after the other."""
    weights = {name: each.detach() for name, each in model.layers.named_parameters()}
    past = [(torch.zeros(12, dtype=torch.float64),) * 2 for _ in range(2)]
    found = []
    for token in tokens:
        x = model.embedding.weight[token]
        for layer in range(2):
            h, c = past[layer]
            gates = weights[f"weight_ih_l{layer}"] @ x + weights[f"bias_ih_l{layer}"]
            gates = gates + weights[f"weight_hh_l{layer}"] @ h + weights[f"bias_hh_l{layer}"]
            i, f, g, o = gates.split(12)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            x = h = o.sigmoid() * c.tanh()
            past[layer] = h, c
        matrix, bias = (model.embedding.weight, model.out_bias) if model.out is None else model.out.parameters()
        logits = matrix @ x + bias
        found.append(logits - logits.exp().sum().log())
    return torch.stack(found)


@pytest.mark.parametrize("tie_output", [False, True])
def test_the_probabilities_are_those_of_the_equations(tie_output: bool) -> None:
    model = language_model(tie_output=tie_output)
    for tokens in ([BOS], [BOS, 4, 5, 6, 6, 4]):
        torch.testing.assert_close(model.log_probs(torch.tensor([tokens]))[0], plain(model, tokens))


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"num_layers=0: expected at least 1"):
        LSTMLanguageModel(7, 12, 0)
