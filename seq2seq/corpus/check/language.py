"""Which side a text looks like, by its characters alone: nothing needs to know the languages.

Each side has a model of character trigrams. A text that is likelier under the other side's model is in the wrong place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.uint32]

TABLE = 1 << 18
"""Entries of a model; trigrams that share one by chance do no harm."""


class SideModels:
    """Counts of the trigrams of both sides."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, TABLE))

    def learn(self, side: int, texts: Sequence[str]) -> None:
        """Count the trigrams of texts of a side, 0 or 1."""
        self.counts[side] += np.bincount(trigrams(texts)[0], minlength=TABLE)

    def preference(self, side: int, texts: Sequence[str]) -> Floats:
        """[texts] how much better each fits its own side than the other, in nats per trigram.

        A text's own share in the counts is taken out, so that it cannot vouch for itself.
        """
        places, owners, sizes = trigrams(texts)
        totals = self.counts.sum(axis=1) + TABLE * 0.01
        own = np.log((self.counts[side][places] - 1 + 0.01).clip(0.01) / totals[side])
        other = np.log((self.counts[1 - side][places] + 0.01) / totals[1 - side])
        sums = np.bincount(owners, own - other, minlength=len(texts)).astype(np.float64)
        shares: Floats = sums / sizes.clip(1)
        return shares


def trigrams(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Entries of all trigrams of the texts one after the other, the text each belongs to, and how many each has."""
    padded = [f"\n{text}\n" for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", errors="replace"), np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    owners = np.repeat(np.arange(len(padded)), lengths)
    if len(codes) < 3:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(len(padded), np.int64)
    mixed = (codes[:-2] * np.uint64(0x9E3779B1) + codes[1:-1]) * np.uint64(0x85EBCA77) + codes[2:]
    mixed ^= mixed >> np.uint64(29)
    inside = owners[:-2] == owners[2:]
    places = (mixed % np.uint64(TABLE)).astype(np.int64)[inside]
    owners = owners[:-2][inside]
    return places, owners, np.bincount(owners, minlength=len(padded))
