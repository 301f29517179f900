"""`s2s convert`: a model that keeps fewer keys and values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import usage


def convert(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="Bundle or checkpoint with multi-head attention.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Bundle to write.")],
    kv_heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of keys and values, each the mean of a group; to be trained on.")
    ] = None,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Make values of keys: no output changes.")] = False,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="encoder, self or cross (of decoders); repeat it. Default: self and cross."),
    ] = None,
) -> None:
    """Turn multi-head attention into grouped-query, multi-query (--kv-heads 1) or keys-only attention."""
    from s2s.errors import UserError
    from s2s.models.attentions import cache_bytes
    from s2s.models.convert import KEYS_ONLY, convert_bundle

    with usage():
        if (kv_heads is None) == (not keys_only):
            raise UserError("give either --kv-heads or --keys-only")
    before, converted = convert_bundle(model, out, KEYS_ONLY if keys_only else {"kv_heads": kv_heads}, part)
    print(f"{out}: {'keys only' if keys_only else f'kv_heads={kv_heads}'} in {', '.join(converted.parts)}")
    models = (before, converted.model)
    counts = [sum(p.numel() for p in each.parameters()) for each in models]
    tokens, frames = zip(*map(cache_bytes, models), strict=True)
    print(f"{'parameters':<28}{counts[0]:>14,.0f} -> {counts[1]:,.0f}")
    print(f"{'bytes cached for a token':<28}{tokens[0]:>14,.0f} -> {tokens[1]:,.0f}")
    print(f"{'bytes cached for a frame':<28}{frames[0]:>14,.0f} -> {frames[1]:,.0f}")
    if keys_only:
        digits = (max(0.0, bits * math.log10(2) - math.log10(converted.condition)) for bits in (24, 11))
        print(
            f"condition number of the projections to keys up to {converted.condition:.0e}: values keep about "
            "{:.0f} digits in float32, {:.0f} in float16".format(*digits)
        )
