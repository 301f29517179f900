"""N-gram language models by modified Kneser-Ney smoothing, as ARPA text files.

Estimates are those of Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation": interpolated,
with three discounts an order, <s> as context only, and the mass of unseen words shared with <unk>.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from s2s.errors import UserError
from s2s.files import replacing

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
NEVER = 1e-99  # a back-off weight may be zero, its logarithm not
FALLBACK = (0.5, 1.0, 1.5)  # discounts of an order whose counts tell none


@dataclass(frozen=True)
class Order:
    """The M n-grams of one order that a text has.

    Those of order n are made of one of order n-1, their `prefix`, and a last `word`; `suffix` is what they end in.
    """

    prefix: Ids  # (M,) the number of the (n-1)-gram; 0 for unigrams
    word: Ids  # (M,)
    suffix: Ids  # (M,) the number of the (n-1)-gram; 0 for unigrams
    counts: Ids  # (M,) how often it is there
    starts: NDArray[np.bool_]  # (M,) whether it begins with <s>


@dataclass(frozen=True)
class KneserNey:
    """A model of the n-grams of `orders`: probabilities and back-off weights of each (M,), and discounts."""

    orders: Sequence[Order]
    probs: Sequence[Floats]
    backoffs: Sequence[Floats]
    discounts: Sequence[tuple[float, float, float]]


def count_ngrams(sentences: Iterable[Sequence[int]], order: int, bos_id: int, eos_id: int) -> list[Order]:
    """The n-grams of each length up to `order` in sentences of tokens, which get one bos and one eos each.

    Raises UserError where there is no sentence, or a token that is bos or eos.
    """
    stream: list[int] = []
    places: list[int] = []  # of each token in its sentence
    for number, sentence in enumerate(sentences, start=1):
        if bos_id in sentence or eos_id in sentence:
            raise UserError(f"sentence {number}: holds the token of a sentence's begin or end")
        stream += [bos_id, *sentence, eos_id]
        places += range(len(sentence) + 2)
    if not stream:
        raise UserError("no sentences: a language model needs text")
    tokens, place = np.array(stream, dtype=np.int64), np.array(places, dtype=np.int64)
    size = int(tokens.max()) + 1
    orders: list[Order] = []
    ending = np.zeros(len(tokens), dtype=np.int64)  # the number of the (n-1)-gram that ends at each token
    for n in range(1, order + 1):
        ends = np.flatnonzero(place >= n - 1)
        before = ending[ends - 1] if n > 1 else np.zeros(len(ends), dtype=np.int64)
        keys, first, numbers, counts = np.unique(
            before * size + tokens[ends], return_index=True, return_inverse=True, return_counts=True
        )
        orders.append(
            Order(
                prefix=keys // size,
                word=keys % size,
                suffix=ending[ends[first]] if n > 1 else np.zeros(len(keys), dtype=np.int64),
                counts=counts.astype(np.int64),
                starts=place[ends[first]] == n - 1,
            )
        )
        ending = np.full(len(tokens), -1, dtype=np.int64)
        ending[ends] = numbers
    return orders


def estimate(orders: Sequence[Order], bos_id: int, unk_id: int, fallback: bool = False) -> KneserNey:
    """The modified Kneser-Ney model of n-grams that were counted; <unk> is among the unigrams, seen or not.

    Where the counts of counts give no discount (small or artificial texts), that of the order is 0.5, 1 and 1.5 with
    `fallback`; otherwise UserError says which order.
    """
    orders = [_with_unknown(orders[0], unk_id), *orders[1:]] if unk_id not in orders[0].word else list(orders)
    probs: list[Floats] = []
    backoffs: list[Floats] = []
    discounts = []
    is_bos = orders[0].word == bos_id
    for n, own in enumerate(orders, start=1):
        adjusted = own.counts
        if n < len(orders):  # how many words it was seen after, but for what begins a sentence
            after = np.bincount(orders[n].suffix, minlength=len(own.word))
            adjusted = np.where(own.starts, own.counts, after)
        if n == 1:
            adjusted = np.where(is_bos | ((own.word == unk_id) & (own.counts == 0)), 0, adjusted)
        steps = discounts_of(adjusted, n, fallback)
        discounts.append(steps)
        taken = np.array([0.0, *steps])[np.minimum(adjusted, 3)]
        contexts = 1 if n == 1 else len(orders[n - 2].word)
        totals = np.bincount(own.prefix, weights=adjusted, minlength=contexts)
        left = np.divide(
            np.bincount(own.prefix, weights=taken, minlength=contexts), totals, out=np.ones(contexts), where=totals > 0
        )
        seen = (adjusted - taken) / totals[own.prefix]
        if n == 1:
            lower = np.full(len(own.word), 1.0 / (len(own.word) - is_bos.sum()))
        else:
            lower = probs[-1][own.suffix]
            backoffs.append(left)
        probs.append(
            np.where(is_bos, 1.0, seen + left[own.prefix] * lower) if n == 1 else seen + left[own.prefix] * lower
        )
    backoffs.append(np.ones(len(orders[-1].word)))
    return KneserNey(orders, probs, backoffs, discounts)


def discounts_of(counts: Ids, order: int, fallback: bool = False) -> tuple[float, float, float]:
    """D_1, D_2 and D_3+ of counts (M,): D_k = k - (k + 1) Y t_(k+1) / t_k, Y = t_1 / (t_1 + 2 t_2) (Chen & Goodman).

    t_k is how many counts are k. UserError where one is not between 0 and k, unless there is a fallback.
    """
    t = np.bincount(np.minimum(counts, 5), minlength=6)
    if t[1] and t[2] and t[3]:
        y = t[1] / (t[1] + 2 * t[2])
        found = [k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3)]
        if all(0 <= discount <= k for k, discount in enumerate(found, start=1)):
            return found[0], found[1], found[2]
    if fallback:
        return FALLBACK
    raise UserError(
        f"{order}-grams: no Kneser-Ney discounts: {t[1]} counts of one, {t[2]} of two, {t[3]} of three and {t[4]} of "
        "four; the text is too small or repeats itself. Give more text, a lower order, or --discount-fallback"
    )


def write_arpa(model: KneserNey, words: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write the model with the words of its tokens, log10 probabilities and back-off weights."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        print("\\data\\", file=file)
        for n, order in enumerate(model.orders, start=1):
            print(f"ngram {n}={len(order.word)}", file=file)
        texts: list[str] = []
        for n, order in enumerate(model.orders, start=1):
            pairs = zip(order.prefix.tolist(), order.word.tolist(), strict=True)
            texts = [words[word] if n == 1 else f"{texts[prefix]} {words[word]}" for prefix, word in pairs]
            print(f"\n\\{n}-grams:", file=file)
            logs = (
                np.log10(np.maximum(numbers, NEVER)).tolist() for numbers in (model.probs[n - 1], model.backoffs[n - 1])
            )
            for text, prob, backoff in zip(texts, *logs, strict=True):
                print(f"{prob:.8g}\t{text}" + (f"\t{backoff:.8g}" if n < len(model.orders) else ""), file=file)
        print("\n\\end\\", file=file)


def _with_unknown(unigrams: Order, unk_id: int) -> Order:
    """Unigrams with an <unk> that was never seen, behind the others."""
    return Order(
        prefix=np.append(unigrams.prefix, 0),
        word=np.append(unigrams.word, unk_id),
        suffix=np.append(unigrams.suffix, 0),
        counts=np.append(unigrams.counts, 0),
        starts=np.append(unigrams.starts, False),
    )
