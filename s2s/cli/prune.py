"""`s2s prune`: a model without the attention heads that matter least."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2s.cli.options import Data, Device, NumWorkers, Skip, check_device

if TYPE_CHECKING:
    from torch import nn

    from s2s.data.batch import Batch


def prune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Bundle of a hybrid CTC/attention model.")],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Bundle to write; it must not exist.")],
    keep: Annotated[float, typer.Option(metavar="SHARE", help="Share of the heads to keep, such as 0.5.")],
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is printed, and how much each head matters, as JSON.")
    ] = None,
    skip: Skip = None,
    max_batch_seconds: Annotated[float, typer.Option(min=1.0, help="Audio encoded at once, padding counted.")] = 120.0,
    num_workers: NumWorkers = 1,
    device: Device = "cpu",
) -> None:
    """Remove the attention heads that matter least, and report what that costs.

    How much a head matters is measured on data with transcripts: the gradient of the loss by a factor of the head
    (Michel et al. 2019). Those that matter least in the whole model go; each attention keeps one at least. The loss and
    the token errors of CTC's best path are those of the same data before and after; give data that was not trained on.
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from s2s.data.corpus import load_corpus
    from s2s.data.dataset import SpeechDataset
    from s2s.data.loader import DataConfig, evaluation_batches
    from s2s.data.validate import drop
    from s2s.data.validate import validate as check_data
    from s2s.errors import UserError
    from s2s.files import replacing
    from s2s.models.attentions import attentions
    from s2s.models.bundle import Bundle, load_bundle
    from s2s.models.heads import check_removable, check_share, head_importance, most_important, pruned
    from s2s.models.hybrid import HybridModel
    from s2s.tokenizers.joint import prompt_tokens
    from s2s.training.validation import validate

    check_share(keep)
    if out.exists():
        raise UserError(f"--out {out}: is there already; name another folder, or remove it")
    bundle = load_bundle(model, check_device(device))
    if prompt_tokens(bundle.tokenizer):
        raise UserError(f"{model}: takes prompts; the heads of a model that knows one task alone are weighed")
    layers = attentions(bundle.model)
    for name, layer in layers.items():
        check_removable(name, layer)
    corpus = load_corpus(data)
    cuts, left_out = drop(corpus, check_data(corpus, read_audio=False, require_text=True), skip or [])
    if left_out:
        print(left_out)
    dataset = SpeechDataset(bundle.tokenizer, bundle.features, skip_bad_audio="bad_audio" in (skip or []))
    config = DataConfig(max_batch_seconds=max_batch_seconds, num_workers=num_workers)
    skipped: dict[str, None] = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def batches(what: str) -> Iterator[Batch]:
            task = progress.add_task(what, total=len(cuts))
            for batch in evaluation_batches(cuts, dataset, config):
                skipped.update(dict.fromkeys(batch.skipped))
                yield batch.to(device)
                progress.advance(task, len(batch) + len(batch.skipped))

        def loss(batch: Batch) -> Any:
            memory = bundle.model.encode(batch.source, batch.source_lengths)
            return bundle.model.loss(memory, batch.target, batch.target_lengths).total

        before = validate(bundle.model, batches("loss before"))
        importance = head_importance(bundle.model, _alone(batches("importance of heads")), loss)
        kept = most_important(importance, keep)
        smaller, model_config = pruned(bundle.model, bundle.model_config, kept)
        assert isinstance(smaller, HybridModel)
        after = validate(smaller, batches("loss after"))
    for utterance in skipped:
        print(f"skipped, its audio cannot be read: {utterance}")
    Bundle(smaller, bundle.tokenizer, bundle.features, model_config).save(out)
    measured = {"before": _measured(bundle.model, importance, before), "after": _measured(smaller, kept, after)}
    if report is not None:
        heads = {name: {"kept": kept[name], "importance": values.tolist()} for name, values in importance.items()}
        with replacing(report) as beside:
            beside.write_text(json.dumps({**measured, "attentions": heads}, indent=2) + "\n", encoding="utf-8")
    for name, layer in layers.items():
        print(f"{name}: {len(kept[name])} of {layer.num_heads} heads kept ({', '.join(map(str, kept[name]))})")
    print(f"{'':<16} {'before':>12} {'after':>12}")
    for key, form in (("heads", ",d"), ("parameters", ",d"), ("loss", ".4f"), ("ctc_greedy_error", ".2%")):
        shown = [format(values[key], form) for values in measured.values()]
        print(f"{key.replace('_', ' ').replace('ctc', 'CTC'):<16} {shown[0]:>12} {shown[1]:>12}")
    print(f"{out}: {measured['after']['heads']} of {measured['before']['heads']} heads")


def _measured(model: nn.Module, heads: Mapping[str, Sized], validated: tuple[float, float]) -> dict[str, Any]:
    return {
        "heads": sum(map(len, heads.values())),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "loss": validated[0],
        "ctc_greedy_error": validated[1],
    }


def _alone(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Each utterance of the batches as a batch of its own, without padding."""
    from dataclasses import replace

    for batch in batches:
        for b, (frames, tokens) in enumerate(
            zip(batch.source_lengths.tolist(), batch.target_lengths.tolist(), strict=True)
        ):
            one = slice(b, b + 1)
            yield replace(
                batch,
                ids=batch.ids[one],
                source=batch.source[one, :frames],
                source_lengths=batch.source_lengths[one],
                target=batch.target[one, :tokens],
                target_lengths=batch.target_lengths[one],
                texts=batch.texts[one],
            )
