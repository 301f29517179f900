"""What a segmental model learns: its own loss written out, and boundaries from CTC or from outside."""

from __future__ import annotations

import pytest
import torch
from toy import BOS, toy_source
from toy_segmental import segmental_model

from s2s.decoding.alignment import align
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.segmental import SegmentalModel
from s2s.models.segmentation import fitted, log_prob
from s2s.nn.segments import Segments

TARGET, LENGTHS = torch.tensor([[4, 5, 5], [5, 4, 0]]), torch.tensor([3, 2])


def encoded(model: HybridModel) -> Memory:
    return model.encode(*toy_source([60, 40]))


@pytest.mark.parametrize("segments", [Segments(max_frames=4), Segments("window", left=2, right=2), Segments("global")])
def test_the_loss_is_minus_log_p_of_labels_and_segments(segments: Segments) -> None:
    model = segmental_model(segments=segments)
    model.label_smoothing = 0.0
    memory = encoded(model)
    ends = align(model.ctc(memory), memory.lengths, TARGET, LENGTHS).ends
    tokens = torch.nn.functional.pad(TARGET, (1, 0), value=BOS)
    expected = -log_prob(model.decoder, memory, tokens, LENGTHS, ends).sum() / 5
    losses = model.loss(memory, TARGET, LENGTHS)
    assert losses.attention.item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.attention.item() == pytest.approx((losses.parts["label"] + losses.parts["length"]).item())
    assert losses.total.item() == pytest.approx((0.3 * losses.ctc + 0.7 * losses.attention).item())
    model.length_weight = 0.25
    parts = model.loss(memory, TARGET, LENGTHS)
    assert parts.attention.item() == pytest.approx((losses.parts["label"] + 0.25 * losses.parts["length"]).item())


def test_given_ends_take_the_place_of_those_of_ctc() -> None:
    model = segmental_model()
    memory = encoded(model)
    own = model.ctc_path(memory, TARGET, LENGTHS).ends
    source_frames = own * model.encoder.subsampling_factor
    as_own = model.loss(memory, TARGET, LENGTHS, source_frames)
    torch.testing.assert_close(as_own.attention, model.loss(memory, TARGET, LENGTHS).attention)
    torch.testing.assert_close(model.loss(memory, TARGET, LENGTHS, source_frames - 3).attention, as_own.attention)
    other = torch.tensor([[2, 3, 9], [4, 8, 0]])
    assert not torch.equal(fitted(own, LENGTHS, memory.lengths), fitted(other, LENGTHS, memory.lengths))
    assert model.loss(memory, TARGET, LENGTHS, 4 * other).attention != as_own.attention
    source, lengths = toy_source([60, 40])
    whole = model(source, lengths, TARGET, LENGTHS, None, 4 * other)
    torch.testing.assert_close(whole.total, model.loss(memory, TARGET, LENGTHS, 4 * other).total)


def test_a_training_leaves_to_ctc_what_it_does_not_know_yet() -> None:
    model = segmental_model(dropout=0.0)
    memory = encoded(model)
    path = model.ctc_path(memory, TARGET, LENGTHS)
    means = path.confidences.sum(dim=1) / LENGTHS
    alone = [model.loss(memory.rows(b, b + 1), TARGET[b : b + 1, :n], LENGTHS[b : b + 1]) for b, n in enumerate([3, 2])]
    known = int(means.argmax())
    model.min_confidence = means.mean().item()
    whole = model.loss(memory, TARGET, LENGTHS)  # what is measured is measured of all
    model.train()
    learned = model.loss(memory, TARGET, LENGTHS)
    for name in ("label", "length"):
        torch.testing.assert_close(learned.parts[name], alone[known].parts[name] * LENGTHS[known] / 5)
        torch.testing.assert_close(whole.parts[name], (3 * alone[0].parts[name] + 2 * alone[1].parts[name]) / 5)
    model.min_confidence = 1.0
    nothing = model.loss(memory, TARGET, LENGTHS)
    assert nothing.attention == 0.0
    nothing.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.min_confidence = 0.0
    torch.testing.assert_close(model.loss(memory, TARGET, LENGTHS).attention, whole.attention)


def test_padding_of_frames_and_targets_changes_no_loss() -> None:
    model = segmental_model()
    alone = [
        model(*toy_source([n], seed), target[None, :u], torch.tensor([u]))
        for seed, (n, target, u) in enumerate(zip([60, 40], TARGET, [3, 2], strict=True))
    ]
    padded = torch.nn.functional.pad(TARGET, (0, 2), value=3)
    together = model(*toy_source([60, 40], padding=5.0, more=20), padded, LENGTHS)
    for name in ("label", "length"):
        expected = (3 * alone[0].parts[name] + 2 * alone[1].parts[name]) / 5
        torch.testing.assert_close(together.parts[name], expected)


def test_gradients_reach_the_encoder_and_not_ctc_from_the_decoder() -> None:
    model = segmental_model()
    model.loss(encoded(model), TARGET, LENGTHS).attention.backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())  # type: ignore[attr-defined]
    assert all(p.grad is None for p in model.ctc.parameters())  # where labels end is given


def test_the_encoder_learns_from_lengths_only_where_ends_are_given() -> None:
    for ends, learns in ((None, False), (torch.tensor([[8, 30, 50], [12, 36, 0]]), True)):
        model = segmental_model()
        model.loss(encoded(model), TARGET, LENGTHS, ends).parts["length"].backward()
        assert all(p.grad is not None for p in model.decoder.length.parameters())
        assert any(p.grad is not None and bool(p.grad.any()) for p in model.encoder.parameters()) == learns  # type: ignore[attr-defined]


def test_more_labels_than_frames_are_no_trap() -> None:
    model = segmental_model()
    source, lengths = toy_source([7, 60])
    losses = model(source, lengths, torch.tensor([[4] * 12, [5] * 12]), torch.tensor([12, 12]))
    assert losses.total.isfinite()


def test_a_frame_that_is_not_a_number_is_seen_in_the_loss() -> None:
    model = segmental_model()
    memory = encoded(model)
    memory.states[0, 3] = torch.nan
    assert model.loss(memory, TARGET, LENGTHS).total.isnan()


def test_a_few_steps_learn_where_segments_end_and_what_they_are() -> None:
    torch.manual_seed(0)
    model = segmental_model().float().train()
    source, lengths = (each.float() if each.is_floating_point() else each for each in toy_source([60, 40]))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    first, ends = None, torch.tensor([[8, 30, 50], [12, 36, 0]])
    for _ in range(25):
        losses = model(source, lengths, TARGET, LENGTHS, None, ends)
        first = first or losses
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert first is not None
    assert losses.parts["length"] < 0.8 * first.parts["length"]
    assert losses.parts["label"] < 0.8 * first.parts["label"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_weight": -1.0}, r"length_weight=-1\.0: expected 0 or more"),
        ({"min_confidence": 1.5}, r"min_confidence=1\.5: expected a probability"),
        ({"decoder": torch.nn.Linear(2, 2)}, r"decoder: a Linear; expected s2s\.models\.segmental_decoder"),
        ({"ctc_weight": 2.0}, r"ctc_weight=2\.0"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    toy = segmental_model()
    given = {"normalise": toy.normalise, "encoder": toy.encoder, "decoder": toy.decoder, **options}
    with pytest.raises(UserError, match=message):
        SegmentalModel(6, **given)  # type: ignore[arg-type]
