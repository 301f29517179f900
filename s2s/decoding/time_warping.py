"""Dynamic time warping of tokens to frames, and the median filter that comes before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK_CPU, _BLOCK_GPU = 1 << 16, 1 << 26  # values filtered at once: what the cache holds; bounded memory


@torch.no_grad()
def warp(costs: Tensor, token_lengths: Tensor, frame_lengths: Tensor) -> Tensor:
    """The first frame of each token (B,U), 0 for padding: costs (B,U,T), finite, tokens (B,), frames (B,), 1 or more.

    They are of the path of least total cost from the first token and frame to the last ones, which goes on by a token,
    a frame, or both at once (Sakoe and Chiba 1978); of equally cheap paths always the same one. In float64.
    """
    # A token costs totals[t] - totals[s - 1] over the frames s to t, so the best s for every t is a running minimum of
    # what it cost to come to s, less totals[s - 1]: a pass over the frames for each token, and none over single cells.
    totals = costs.double().cumsum(dim=2)
    before = F.pad(totals[..., :-1], (1, 0))
    arrive = torch.full_like(totals[:, 0], float("inf"))  # (B,T) least cost up to a frame, that frame not yet counted
    arrive[:, 0] = 0.0
    firsts, together = [], []  # of each token (B,T): its first frame; does the token before it end in the frame before
    for total, earlier in zip(totals.unbind(1), before.unbind(1), strict=True):
        least, first = (arrive - earlier).cummin(dim=1)
        firsts.append(first)
        here = least + total
        previous = F.pad(here[:, :-1], (1, 0), value=float("inf"))
        together.append(previous <= here)
        arrive = torch.minimum(previous, here)

    starts = torch.zeros(costs.shape[:2], dtype=torch.long, device=costs.device)
    frame = frame_lengths.unsqueeze(1) - 1  # (B,1) the last frame of the token
    for u in reversed(range(costs.size(1))):
        is_real = (u < token_lengths).unsqueeze(1)
        start = firsts[u].gather(1, frame)
        starts[:, u : u + 1] = start.masked_fill(~is_real, 0)
        if u:
            frame = torch.where(is_real, start - together[u - 1].gather(1, start).long(), frame)
    return starts


def median_filter(x: Tensor, lengths: Tensor, width: int = 7) -> Tensor:
    """The median of the `width` (odd) frames around each one of x (B,...,T), lengths (B,); 0 in the padding.

    An utterance goes on beyond both its ends as if reflected there, its end frames not doubled; one that is too short
    for that repeats its first frame.
    """
    size, margin = x.size(-1), width // 2
    rows, last = x.flatten(1, -2), (lengths - 1).unsqueeze(1)  # (B,R,T), (B,1)
    frames = torch.arange(-margin, size + margin, device=x.device)
    places = (last - (last - frames.abs()).abs()).clamp(min=0)  # (B,T+width-1)
    extended = torch.cat([row.index_select(1, place) for row, place in zip(rows, places, strict=True)])
    step = max(1, (_BLOCK_CPU if x.device.type == "cpu" else _BLOCK_GPU) // size)
    medians = torch.cat([_running_median(block, width) for block in extended.split(step)]).view_as(x)
    padding = frames[margin : margin + size] > last
    return medians.masked_fill_(padding.view(len(x), *[1] * (x.dim() - 2), size), 0.0)


def _running_median(x: Tensor, width: int) -> Tensor:
    """x (R,T+width-1) -> (R,T): without sorting, as half and two of the values hold the median, not at either end."""
    values = list(x.unfold(1, x.size(1) - width + 1, 1).unbind(1))
    held, others = values[: width // 2 + 2], values[width // 2 + 2 :]
    while len(held) > 1:
        for i in range(1, len(held)):  # the least to the front
            held[0], held[i] = torch.minimum(held[0], held[i]), torch.maximum(held[0], held[i])
        for i in range(1, len(held) - 1):  # the greatest to the back
            held[i], held[-1] = torch.minimum(held[i], held[-1]), torch.maximum(held[i], held[-1])
        held = held[1:-1] + others[:1]
        others = others[1:]
    return held[0]
