"""Where two sides have come out of step, by the lengths of their lines.

Long sentences have long translations. In a stretch of lines where the lengths go together only after one side is moved,
lines are missing or doubled before it; where they go together nowhere, though elsewhere they do, lines are mixed up.

Reference:
    Lengths as evidence: Gale & Church (1993), "A program for aligning sentences in bilingual corpora".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int32]

WINDOW = 60
"""Lines that are looked at together."""

MOST = 5
"""Lines that a side may have been moved by."""

AGREES, DISAGREES, GAIN = 0.6, 0.2, 0.3
"""Correlations: of lengths that go together, of those that do not, and by how much moving must help."""


class Stretch(NamedTuple):
    """Lines `first` to `last`, counted from 1, that look out of step; `shift`: target line n belongs to source line
    n - shift, or 0: to none that is near."""

    first: int
    last: int
    shift: int


def misaligned(source: Lengths, target: Lengths) -> list[Stretch]:
    """The stretches that look out of step.

    Args:
        source, target: [pairs] characters of each line.
    """
    sources, targets = (np.log1p(side.astype(np.float64)) for side in (source, target))
    # The last window ends with the last line.
    starts = [*range(0, len(source) - WINDOW, WINDOW), max(0, len(source) - WINDOW)]
    shifts = range(-MOST, MOST + 1)
    fits = np.array([[correlation(sources, targets, start, shift) for shift in shifts] for start in starts])
    in_step = fits[:, MOST]
    usual = float(np.median(in_step))
    best = fits.argmax(axis=1)
    gain = fits.max(axis=1) - in_step
    found: list[Stretch] = []
    for number, start in enumerate(starts):
        if fits[number, best[number]] > AGREES and gain[number] > GAIN:
            shift = int(best[number]) - MOST
        elif usual > AGREES and in_step[number] < DISAGREES:
            shift = 0
        else:
            continue
        last = min(start + WINDOW, len(source))
        if found and found[-1].shift == shift and found[-1].last >= start:
            found[-1] = found[-1]._replace(last=last)
        else:
            found.append(Stretch(start + 1, last, shift))
    return found


def correlation(source: NDArray[np.float64], target: NDArray[np.float64], start: int, shift: int) -> float:
    """Of a window's source lengths with the target lengths `shift` lines further on; 0: cannot be told."""
    first = max(start, -shift)
    last = min(start + WINDOW, len(source), len(target) - shift)
    one, other = source[first:last], target[first + shift : last + shift]
    if len(one) < WINDOW // 2 or one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
