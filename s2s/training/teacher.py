"""A trained model that another one learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from s2s.data.batch import Batch
from s2s.errors import UserError
from s2s.models.bundle import load_bundle
from s2s.models.distillation import Lesson
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.hybrid import HybridModel
from s2s.models.language_model import teacher_forced
from s2s.models.lm_bundle import check_vocabulary
from s2s.models.segmental import SegmentalModel
from s2s.models.translation_bundle import load_translation_bundle
from s2s.training.task import Trained


@dataclass(frozen=True)
class DistillationConfig:
    """What a model learns from a larger one besides the true texts (see `Lesson`).

    Attributes:
        teacher: the bundle of a trained model with the same tokenizer; null for none.
        weight: the share of the teacher in each loss it has a say in.
        temperature: by which both divide their scores; above 1 the less probable tokens count more.
        tokens: whether next tokens are taught.
        frames: whether CTC's labels of frames are, where there is a CTC; then teacher and student need the same frames.
    """

    teacher: str | None = None
    weight: float = 0.5
    temperature: float = 1.0
    tokens: bool = True
    frames: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.weight <= 1.0:
            raise UserError(f"distillation.weight={self.weight}: expected a share above 0, up to 1")
        if not self.temperature > 0.0:
            raise UserError(f"distillation.temperature={self.temperature}: expected more than 0, such as 1 or 2")
        if not (self.tokens or self.frames):
            raise UserError("distillation: neither tokens nor frames are taught; leave the teacher out")


Model = TypeVar("Model", HybridModel, EncoderDecoder)


class Teacher(Generic[Model]):
    """A model that stays as it is and says what it would answer."""

    def __init__(self, config: DistillationConfig, student: Trained) -> None:
        """Load it; UserError where it has another tokenizer, or the student nothing that it teaches."""
        assert config.teacher is not None
        self.config = config
        key = f"distillation.teacher={config.teacher}"
        text = isinstance(student.model, EncoderDecoder)
        bundle = load_translation_bundle(config.teacher) if text else load_bundle(config.teacher)
        check_vocabulary(bundle.tokenizer, student.tokenizer, key)
        self.model: Model = bundle.model.requires_grad_(False)  # type: ignore[assignment]
        self.student = student.model
        own = not isinstance(self.student, SegmentalModel) and not isinstance(self.model, SegmentalModel)
        self.tokens = config.tokens and own
        self.frames = config.frames and isinstance(self.student, HybridModel)
        if not (self.tokens or self.frames):
            raise UserError(f"{key}: this model has nothing to learn of it with distillation.frames={config.frames}")
        if getattr(self.student, "consistency", 0.0):
            raise UserError(f"{key}: is for a model without consistency; leave one of them out")
        if self.frames and isinstance(self.student, HybridModel):
            theirs, ours = (model.encoder.subsampling_factor for model in (self.model, self.student))
            if theirs != ours or getattr(self.student, "ctc_text", "") != getattr(self.model, "ctc_text", ""):
                raise UserError(
                    f"{key}: its CTC labels other frames or texts (one frame of {theirs}, here of {ours}); expected "
                    "the same, or distillation.frames=false"
                )

    @torch.no_grad()
    def lesson(self, batch: Batch, given: Tensor | None = None) -> Lesson:
        """What it says of a batch; `given` (B,U) are the tokens so far where they are not the targets."""
        model = self.model.to(batch.source.device)
        memory = model.encode(batch.source, batch.source_lengths, asked=batch.asked)
        tokens, _, _ = teacher_forced(batch.target, batch.target_lengths, model.bos_id, model.eos_id)
        if given is not None:
            tokens = torch.cat((tokens[:, :1], given), dim=1)
        ctc: nn.Module | None = getattr(model, "ctc", None)
        return Lesson(
            model.decoder(memory, tokens) if self.tokens else None,
            ctc(memory) if self.frames and ctc is not None else None,
            self.config.weight,
            self.config.temperature,
        )


def teacher_of(config: DistillationConfig, student: Trained) -> Teacher[HybridModel] | None:
    """The teacher of a config, if there is one."""
    return None if config.teacher is None else Teacher(config, student)
