"""Speech translation, as a training loop sees it: speech in one language in, text of another or the same out."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from lhotse import CutSet
from torch import Tensor

from s2s.data.batch import Batch
from s2s.data.cuts import origin, text
from s2s.data.directions import in_directions, spoken, utterance
from s2s.data.parallel import Direction
from s2s.data.problems import Problem
from s2s.data.validate import drop, validate
from s2s.errors import UserError
from s2s.models.segmental import SegmentalModel
from s2s.training.config import TrainConfig
from s2s.training.prepare import length_problems, read_corpus
from s2s.training.recognition import Recognition
from s2s.training.text_translation import check_directions
from s2s.training.validation import validate_next_tokens


class SpeechTranslation(Recognition):
    """A hybrid model, and recordings with their words in the languages of `data.pairs`; en-en is recognition."""

    error_name, error_title = "token_error", "wrong next tokens"

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        if not config.data.pairs:
            raise UserError("data.pairs is empty; name what to translate, such as data.pairs=[en-de]")
        if isinstance(self.bundle.model, SegmentalModel):
            raise UserError(
                "model._target_: a segmental model writes what is said, in that order; expected "
                "s2s.models.hybrid.HybridModel for task=speech_translation"
            )
        self.directions = [Direction.of(pair) for pair in config.data.pairs]
        check_directions(self.bundle.tokenizer, self.directions, "data.pairs")

    def cuts(self, paths: list[str], key: str, say: Callable[[str], None]) -> CutSet:
        """The examples of all directions; what is left out is counted aloud."""
        config, corpus = self.config, read_corpus(paths, key)
        heard = [problem for problem in validate(corpus, read_audio=False) if problem.kind != "no_text"]
        cuts, left_out = drop(corpus, heard, config.data.skip)
        if left_out:
            say(f"{key}: {left_out}")
        examples = in_directions(cuts, self.directions, config.data.plain_share if key == "data.train" else 0.0)
        of_source = self.bundle.model.ctc_text == "source"
        problems = length_problems(examples, config, self.bundle, spoken if of_source else text)
        if of_source:
            silent = (cut for cut in examples if spoken(cut) is None)
            problems += [Problem("no_text", cut.id, origin(cut), "no words for ctc_text=source") for cut in silent]
        kept, left_out = drop(replace(corpus, cuts=examples), problems, config.data.skip)
        if left_out:
            say(f"{key}: {left_out}")
        return kept

    def epoch_cuts(self, epoch: int) -> CutSet:
        """All examples; or one of each utterance, drawn anew every epoch."""
        if not self.config.data.draw_direction:
            return self.train_cuts
        chance, examples = random.Random(f"{self.config.training.seed} {epoch}"), defaultdict(list)
        for cut in self.train_cuts:
            examples[utterance(cut)].append(cut)
        return CutSet.from_cuts(chance.choice(own) for own in examples.values())

    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        """Loss of the decoder per token, eos counted, and the share of them that are not its most probable ones."""
        model = self.bundle.model.eval()

        def log_probs_of(batch: Batch, tokens: Tensor) -> Tensor:
            memory = model.encode(batch.source, batch.source_lengths, asked=batch.asked, spoken=batch.spoken)
            return model.decoder(memory, tokens)

        heard = (to_device(batch) for batch in batches if len(batch))
        return validate_next_tokens(log_probs_of, model.bos_id, model.eos_id, heard)
