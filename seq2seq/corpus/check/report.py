"""What a check of a corpus finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH_EDGES = (0, 1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500)
RATIO_EDGES = (0.0, 0.11, 0.25, 0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 4.0, 9.0)
"""Where the histograms' bars begin; the last has no end."""

BAR = 40
"""Characters of the longest bar in text."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values are in each bar, which holds its edge and ends before the next."""

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float
    largest: float

    @classmethod
    def of(cls, name: str, values: NDArray[Any], edges: tuple[float, ...]) -> Histogram:
        counts = np.histogram(values, [*edges, np.inf])[0]
        median, largest = (float(np.median(values)), float(values.max())) if len(values) else (0.0, 0.0)
        return cls(name, edges, tuple(counts.tolist()), median, largest)

    def lines(self) -> list[str]:
        """The bars as text, without those that are empty at both ends."""
        used = [number for number, count in enumerate(self.counts) if count]
        shown = range(used[0], used[-1] + 1) if used else range(0)
        most = max(self.counts, default=0)
        return [f"{self.name}: median {self.median:.4g}, largest {self.largest:.4g}"] + [
            f"  {self.label(n):>10}  {self.counts[n]:>12,}  {'█' * round(BAR * self.counts[n] / most)}".rstrip()
            for n in shown
        ]

    def label(self, number: int) -> str:
        """The name of a bar."""
        begin = self.edges[number]
        if number + 1 == len(self.edges):
            return f"{begin:g} -"
        end = self.edges[number + 1]
        whole = isinstance(begin, int) and isinstance(end, int)
        if whole and end == begin + 1:
            return f"{begin}"
        return f"{begin} - {end - 1}" if whole else f"{begin:g} - {end:g}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that one should know before training.

    Attributes:
        kind: a short name, the same for the same kind of finding.
        message: what was found.
        count: how often.
        is_fault: training would fail, or its scores would lie.
        examples: some of it; a line's number, counted from 1, comes first.
    """

    kind: str
    message: str
    count: int
    is_fault: bool = False
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in a corpus."""

    name: str
    pairs: int
    histograms: tuple[Histogram, ...]
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether there are no faults."""
        return not any(finding.is_fault for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_sound": self.is_sound}

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.pairs:,} pairs"]
        for histogram in self.histograms:
            lines += ["", *histogram.lines()]
        lines.append("")
        for finding in sorted(self.findings, key=lambda finding: not finding.is_fault):
            lines.append(f"{'fault' if finding.is_fault else 'note'}: {finding.message}")
            lines += [f"    {example}" for example in finding.examples]
        if not self.findings:
            lines.append("nothing to remark")
        return "\n".join(lines)
