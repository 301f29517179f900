"""What a lesson makes of losses, against its equation written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import toy_model, toy_source

from s2s.models.distillation import Lesson
from s2s.models.hybrid import HybridModel
from s2s.models.intermediate_ctc import IntermediateCTCConfig
from s2s.models.language_model import teacher_forced
from s2s.nn.subsampling import ConvolutionSubsampling


def plain_divergence(teacher: Tensor, student: Tensor, temperature: float) -> float:
    """τ² KL of one token or frame, over probabilities."""
    p, q = (torch.softmax(each / temperature, dim=-1) for each in (teacher, student))
    return temperature**2 * float(sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True)))


def scores(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=generator)).log_softmax(dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_lesson_is_its_equation(weight: float, temperature: float) -> None:
    teacher, student = scores(2, 4, 6, seed=1), scores(2, 4, 6, seed=2)
    lengths, loss = torch.tensor([4, 2]), torch.tensor(1.7)
    counted = torch.arange(4) < lengths.unsqueeze(1)
    lesson = Lesson(teacher, teacher, weight, temperature)
    parts = [plain_divergence(teacher[b, u], student[b, u], temperature) for b in (0, 1) for u in range(lengths[b])]
    by_token = (1 - weight) * 1.7 + weight * sum(parts) / 6
    torch.testing.assert_close(float(lesson.of_tokens(loss, student, counted)), by_token, rtol=1e-4, atol=1e-5)
    by_frame = (1 - weight) * 1.7 + weight * sum(parts) / 3
    taught = lesson.of_frames(loss, student, lengths, torch.tensor(3))
    torch.testing.assert_close(float(taught), by_frame, rtol=1e-4, atol=1e-5)


def test_what_is_not_taught_is_left_as_it_was() -> None:
    loss, student = torch.tensor(1.7), scores(1, 3, 6, seed=1)
    lesson = Lesson(None, None, 0.5, 1.0)
    assert lesson.of_tokens(loss, student, torch.ones(1, 3, dtype=torch.bool)) is loss
    assert lesson.of_frames(loss, student, torch.tensor([3]), torch.tensor(2)) is loss


def test_tokens_that_the_teacher_rules_out_leave_gradients_finite() -> None:
    teacher = torch.tensor([[[0.0, float("-inf"), 0.0]]]).log_softmax(dim=-1)
    student = torch.randn(1, 1, 3, requires_grad=True)
    counted = torch.ones(1, 1, dtype=torch.bool)
    loss = Lesson(teacher, None, 1.0, 2.0).of_tokens(torch.tensor(0.0), student.log_softmax(dim=-1), counted)
    loss.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def lesson_of(model: HybridModel, source: Tensor, lengths: Tensor, target: Tensor, target_lengths: Tensor) -> Lesson:
    with torch.no_grad():
        memory = model.encode(source, lengths)
        tokens, _, _ = teacher_forced(target, target_lengths, model.bos_id, model.eos_id)
        return Lesson(model.decoder(memory, tokens), model.ctc(memory), 1.0, 1.0)


def test_a_model_has_nothing_to_learn_of_itself_and_something_of_another() -> None:
    source, lengths = toy_source([40, 31])
    target, target_lengths = torch.tensor([[4, 5, 4], [5, 4, 0]]), torch.tensor([3, 2])
    model, other = toy_model(seed=0), toy_model(seed=1)
    for teacher, nothing in ((model, True), (other, False)):
        lesson = lesson_of(teacher, source, lengths, target, target_lengths)
        with torch.no_grad():
            loss = model(source, lengths, target, target_lengths, lesson=lesson)
        assert (abs(float(loss.ctc)) < 1e-5) is nothing
        assert (abs(float(loss.attention)) < 1e-5) is nothing


def test_intermediate_layers_are_taught_too() -> None:
    """With the weight of intermediate layers at 1, a lesson alone moves them."""
    torch.manual_seed(0)
    plain = toy_model()
    model = HybridModel(
        6,
        plain.normalise,
        plain.encoder,
        plain.decoder,
        ctc_weight=1.0,
        intermediate_ctc=IntermediateCTCConfig([1], 1.0),
    ).double()
    model.train()
    source, lengths = toy_source([40])
    target, target_lengths = torch.tensor([[4, 5]]), torch.tensor([2])
    frames = lesson_of(toy_model(seed=3), source, lengths, target, target_lengths).frames
    assert isinstance(plain.encoder.front, ConvolutionSubsampling)  # type: ignore[attr-defined]
    taught = model(source, lengths, target, target_lengths, lesson=Lesson(None, frames, 1.0, 1.0))
    torch.manual_seed(1)
    taught.total.backward()
    gradient = model.ctc.out.weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0.0
    assert float(taught.parts["ctc_intermediate"].detach()) > 0.0
