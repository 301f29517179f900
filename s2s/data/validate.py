"""Find what is wrong with a corpus, and leave it out or stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from s2s.audio.read import read_audio
from s2s.data.corpus import Corpus
from s2s.data.cuts import audio_files, origin, text
from s2s.data.kaldi import duration_problems
from s2s.data.problems import Problem, check_kinds, counts, describe
from s2s.data.recordings import in_threads
from s2s.data.samples import load_samples
from s2s.data.shar import shard, with_audio
from s2s.errors import UserError
from s2s.tokenizers.base import Tokenizer


def validate(
    corpus: Corpus,
    read_audio: bool,
    *,
    sampling_rate: int | None = None,
    require_text: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[Problem]:
    """The corpus's problems and those that only a closer look shows.

    Args:
        read_audio: decode every file wholly: a file may be cut short behind a sound header.
        sampling_rate: hertz that every recording should have; None takes any.
        require_text: an utterance without text is a problem even where none has one.
        advance: called for each file decoded.
    """
    problems = list(corpus.problems)
    for source in corpus.sources:
        if source.is_dir():
            problems += duration_problems(source, corpus.cuts)
    if require_text:
        known = {problem.utterance for problem in problems if problem.kind == "no_text"}
        problems += [
            Problem("no_text", cut.id, origin(cut), "no words")
            for cut in corpus.cuts
            if not text(cut) and cut.id not in known
        ]
    if sampling_rate is not None:
        problems += [
            Problem("other_rate", cut.id, origin(cut), f"{cut.sampling_rate} Hz, expected {sampling_rate}")
            for cut in corpus.cuts
            if cut.sampling_rate != sampling_rate
        ]
    if read_audio:
        problems += _audio_problems(corpus.cuts, advance)
    return problems


def decodable_files(cuts: Iterable[Cut]) -> list[str]:
    """Every audio file of the cuts, once: what `validate` decodes."""
    return list(dict.fromkeys(file for cut in cuts for file in audio_files(cut)))


def duration_limit_problems(cuts: Iterable[Cut], min_duration: float, max_duration: float) -> list[Problem]:
    """Utterances that last less or more than the limits, in seconds."""
    problems = []
    for cut in cuts:
        if cut.duration < min_duration:
            message = f"lasts {cut.duration:.3f} s, less than {min_duration:g}"
            problems.append(Problem("too_short", cut.id, origin(cut), message))
        elif cut.duration > max_duration:
            message = f"lasts {cut.duration:.3f} s, more than {max_duration:g}"
            problems.append(Problem("too_long", cut.id, origin(cut), message))
    return problems


def ctc_problems(
    cuts: Iterable[Cut],
    tokenizer: Tokenizer,
    num_encoder_frames: Callable[[float], int],
    words: Callable[[Cut], str | None] = text,
) -> list[Problem]:
    """Utterances whose tokens CTC cannot place: each needs a frame, and equal neighbours a blank between them.

    `num_encoder_frames` gives T for a duration in seconds, that of the fastest speed perturbation where there is one;
    `words` what CTC learns of a cut.
    """
    problems = []
    for cut in cuts:
        tokens = tokenizer.encode(words(cut) or "")
        needed = len(tokens) + sum(left == right for left, right in itertools.pairwise(tokens))
        frames = num_encoder_frames(cut.duration)
        if needed > frames:
            message = f"{len(tokens)} tokens need {needed} frames, {cut.duration:.3f} s give {frames}"
            problems.append(Problem("too_long_text", cut.id, origin(cut), message))
    return problems


def drop(corpus: Corpus, problems: Collection[Problem], skip: Collection[str]) -> tuple[CutSet, str]:
    """The cuts without those whose problems are of a kind in `skip`, and one line that counts what was left out.

    The line is "" where nothing was. Raises UserError for problems of any other kind, and where no cut is left.
    """
    check_kinds(skip)
    kept = [problem for problem in problems if problem.kind not in skip]
    if kept:
        kinds = sorted({*skip, *(problem.kind for problem in kept)})
        raise UserError(
            f"{_names(corpus)}: {len(kept)} problems:\n{describe(kept)}\n"
            f"  mend them, or leave those utterances out: data.skip=[{','.join(kinds)}] "
            f"(for a command: {' '.join(f'--skip {kind}' for kind in kinds)})"
        )
    dropped = {problem.utterance for problem in problems}
    cuts = CutSet.from_cuts(cut for cut in corpus.cuts if cut.id not in dropped)
    if len(cuts) == 0:
        raise UserError(f"{_names(corpus)}: no utterances left ({counts(problems) or 'none to begin with'})")
    if not dropped:
        return cuts, ""
    return cuts, f"{_names(corpus)}: {len(cuts)} utterances, {len(dropped)} left out ({counts(problems)})"


def _names(corpus: Corpus) -> str:
    return ", ".join(map(str, corpus.sources))


def _audio_problems(cuts: CutSet, advance: Callable[[], None]) -> list[Problem]:
    files = decodable_files(cuts)
    reasons: dict[str, str | None] = {}
    for file, reason in zip(files, in_threads(_decoding_error, files), strict=True):
        reasons[file] = reason
        advance()
    return [
        Problem("bad_audio", cut.id, origin(cut), reason)
        for cut in cuts
        for reason in [next(filter(None, (reasons[file] for file in audio_files(cut))), None)]
        if reason
    ] + _shard_problems(cuts)


def _shard_problems(cuts: CutSet) -> list[Problem]:
    """Of what is in shards, which are read from one end to the other."""
    problems = []
    for cut in with_audio(cut for cut in cuts if shard(cut) is not None):
        try:
            load_samples(cut)
        except UserError as error:
            problems.append(Problem("bad_audio", cut.id, origin(cut), str(error).split(": ", 2)[-1]))
    return problems


def _decoding_error(file: str) -> str | None:
    try:
        read_audio(Path(file))
    except UserError as error:
        return str(error)
    return None
