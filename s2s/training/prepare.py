"""What a training starts from: checked corpora, a model of the right size, the statistics of its features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lhotse import CutSet
from lhotse.cut import Cut

from s2s.audio.fbank import Fbank
from s2s.audio.normalise import FeatureStatistics, GlobalNormalise
from s2s.data.alignments import with_token_ends
from s2s.data.corpus import Corpus, load_corpus
from s2s.data.cuts import text
from s2s.data.dataset import SpeechDataset
from s2s.data.problems import Problem
from s2s.data.shar import spread, with_audio
from s2s.data.validate import ctc_problems, drop, duration_limit_problems, validate
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel
from s2s.models.prompted_encoding import check_prompts
from s2s.models.segmental import SegmentalModel
from s2s.tokenizers.load import load_tokenizer
from s2s.training.config import TrainConfig

STATISTICS_UTTERANCES = 2000


def make_bundle(config: TrainConfig) -> Bundle:
    """A fresh model, its weights decided by `training.seed`, with the tokenizer and features of the config."""
    torch.manual_seed(config.training.seed)
    model = build(config.model)
    if not isinstance(model, HybridModel):
        raise UserError(f"model._target_: expected {HybridModel.__module__}.HybridModel, got {type(model).__name__}")
    tokenizer = load_tokenizer(config.tokenizer)
    check_prompts(model, tokenizer)
    return Bundle(model, tokenizer, Fbank(config.features).eval(), config.model)


def training_cuts(
    paths: list[str], key: str, config: TrainConfig, bundle: Bundle, say: Callable[[str], None]
) -> CutSet:
    """The utterances of `paths` fit to train on; what `data.skip` allows is left out and counted aloud.

    Raises UserError naming the first utterances with any other problem.
    """
    corpus = read_corpus(paths, key)
    problems = [
        *validate(corpus, read_audio=False, require_text=True),
        *length_problems(corpus.cuts, config, bundle),
    ]
    cuts, left_out = drop(corpus, problems, config.data.skip)
    if left_out:
        say(f"{key}: {left_out}")
    if config.data.alignments is None:
        return cuts
    if not isinstance(bundle.model, SegmentalModel):
        raise UserError(
            f"data.alignments={config.data.alignments}: is for a segmental model, and this is a "
            f"{type(bundle.model).__name__}; leave it out"
        )
    return with_token_ends(cuts, config.data.alignments, bundle.tokenizer)


def read_corpus(paths: list[str], key: str) -> Corpus:
    """What `paths` hold; UserError, naming `key`, where there are none."""
    if not paths:
        raise UserError(
            f"{key} is empty; name at least one Kaldi data directory or Lhotse cuts file: {key}=[data/train]"
        )
    return load_corpus(paths)


def length_problems(
    cuts: CutSet, config: TrainConfig, bundle: Bundle, words: Callable[[Cut], str | None] = text
) -> list[Problem]:
    """Utterances that are too short or too long, or for CTC to learn `words` of."""
    fastest = max([1.0, *config.data.speed_perturb])

    def encoder_frames(seconds: float) -> int:
        frames = bundle.features.num_frames(int(seconds / fastest * config.features.sampling_rate))
        return int(bundle.model.encoder.output_lengths(torch.tensor([frames])))

    return [
        *duration_limit_problems(cuts, config.data.min_duration, config.data.max_duration),
        *ctc_problems(cuts, bundle.tokenizer, encoder_frames, words),
    ]


def set_feature_statistics(bundle: Bundle, cuts: CutSet) -> None:
    """Give a global normalisation the mean and deviation of the training features, from utterances spread evenly."""
    normalise = bundle.model.normalise
    if not isinstance(normalise, GlobalNormalise):
        return
    statistics = FeatureStatistics(bundle.features.config.num_mel_bins)
    dataset = SpeechDataset(None, bundle.features, skip_bad_audio=True)
    for cut in with_audio(spread(cuts, STATISTICS_UTTERANCES)):
        batch = dataset[CutSet.from_cuts([cut])]
        if len(batch):
            statistics.add(batch.source[0])
    normalise.set_statistics(statistics)
