"""The numbers of monotonic attention: where heads stop in a memory, and what they look at then.

Token i is aligned with the first frame j, from that of the token before on, where p_ij = sigmoid(e_ij) says to stop.
In training these are expectations over all such alignments, afterwards decisions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.nn.attention.recurrence import recurrence, recurrence_from_the_end


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32 where its type has fewer digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def expected_alignment(energies: Tensor) -> Tensor:
    """The probability α_ij that token i is aligned with frame j: energies e (...,U,T) -> (...,U,T), at least float32.

    q_ij = (1 - p_i,j-1) q_i,j-1 + α_i-1,j and α_ij = p_ij q_ij (Raffel et al. 2017, arXiv:1704.00784), the first token
    from the first frame on. The authors divide by products of 1 - p, which vanish; EMMA (Ma et al. 2023,
    arXiv:2312.04515) multiplies by a T x T matrix of such products, one from each frame to each later one; this is the
    recurrence itself, with the same value: sums and products of numbers from 0 to 1.

    Rows sum to at most one: the rest is what does not stop. An energy of -inf never stops, one of inf always.
    """
    energies = at_least_float32(energies)
    stop, go_on = energies.sigmoid(), (-energies).sigmoid()  # not 1 - p, which is 0 long before
    decay = F.pad(go_on[..., :-1], (1, 0))
    before = F.pad(torch.zeros_like(stop[..., 0, 1:]), (1, 0), value=1.0)  # the first frame
    rows = []
    for p, a in zip(stop.unbind(-2), decay.unbind(-2), strict=True):
        before = p * recurrence(a, before)
        rows.append(before)
    return torch.stack(rows, dim=-2)


def hard_stops(stops: Tensor, before: Tensor, head_wait: int | None = None) -> Tensor:
    """The frames where H heads stop: `stops` (...,H,U,T) bool, `before` (...,H) of the last token -> (...,H,U) long.

    Each goes on from where it stopped last to the first frame at which it may stop, itself included; T if there is
    none. With `head_wait`, heads that are not as far by so many frames after the first of them stop there
    (head-synchronous decoding: Inaguma et al. 2020, arXiv:2005.09394).
    """
    size, found = stops.size(-1), []
    frames = torch.arange(size, device=stops.device)
    for may_stop in stops.unbind(-2):
        before = torch.where(may_stop & (frames >= before.unsqueeze(-1)), frames, size).amin(dim=-1)
        if head_wait is not None:
            before = before.minimum(before.amin(dim=-1, keepdim=True) + head_wait)
        found.append(before)
    return torch.stack(found, dim=-1)


def infinite_lookback(alignment: Tensor, scores: Tensor) -> Tensor:
    """Expected weights of a softmax over the frames up to the stop: α and scores u (...,U,T) -> β (...,U,T).

    β_ij = sum_{k>=j} α_ik exp(u_ij) / sum_{l<=k} exp(u_il) (MILk: Arivazhagan et al. 2019, arXiv:1906.05218).
    With w_j the weight of frame j in the softmax up to it: β_j = w_j r_j, r_j = α_j + (1 - w_j+1) r_j+1. Frames
    that do not count have the least finite score, and no α.
    """
    top = scores.detach().cummax(dim=-1).values  # so that sums of exponentials are from 1 to T
    fall = F.pad((top[..., :-1] - top[..., 1:]).exp(), (1, 0))
    new = (scores - top).exp()
    total = recurrence(fall, new)  # sum_{l<=j} exp(u_l - top_j)
    rest = fall * F.pad(total[..., :-1], (1, 0)) / total  # not 1 - w, which is 0 long before
    return new / total * recurrence_from_the_end(rest, alignment)


def chunk_lookback(alignment: Tensor, scores: Tensor, size: int) -> Tensor:
    """Expected weights of a softmax over the last `size` frames up to the stop: α and scores (...,U,T) -> (...,U,T).

    β_ij = sum_{k=j}^{j+w-1} α_ik exp(u_ij) / sum_{l=k-w+1}^k exp(u_il) (MoChA: Chiu and Raffel 2018, arXiv:1712.05382),
    each softmax by itself. As in `infinite_lookback`; memory grows with T times `size`.
    """
    windows = F.pad(scores, (size - 1, 0), value=torch.finfo(scores.dtype).min).unfold(-1, size, 1)  # (...,T,w)
    weights = alignment.unsqueeze(-1) * windows.softmax(dim=-1)
    shifted = [F.pad(weight, (i, size - 1 - i)) for i, weight in enumerate(weights.unbind(-1))]
    return torch.stack(shifted).sum(dim=0)[..., size - 1 :]
