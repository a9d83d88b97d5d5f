"""Looking at parallel text before a training does."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seq2seq.config import UNK_ID
from seq2seq.corpus.check.alignment import misaligned
from seq2seq.corpus.check.language import SideModels
from seq2seq.corpus.check.report import LENGTH_EDGES, RATIO_EDGES, CheckReport, Finding, Histogram
from seq2seq.corpus.files import shorten
from seq2seq.corpus.pairs import Pair, ParallelText, as_read
from seq2seq.errors import CorpusError

BLOCK = 10_000
"""Pairs that are looked at together."""

SIDES = ("source", "target")

MARGIN = 0.5
"""Nats per character by which a text must look more like the other side to be called out of place."""

FEWEST = 8
"""Characters: shorter texts tell too little about their language."""


class Tokeniser(Protocol):
    """What is asked of a vocabulary."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        ...

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids."""
        ...

    def normalise(self, text: str) -> str:
        """What decoding gives if nothing is lost."""
        ...


def check_data(
    text: ParallelText,
    held_out: Mapping[str, ParallelText] | None = None,
    vocabularies: tuple[Tokeniser, Tokeniser] | None = None,
    examples: int = 3,
) -> CheckReport:
    """Look for what makes a training fail or its scores lie. Memory grows by some 40 bytes a pair.

    Args:
        text: the training pairs.
        held_out: validation and test sets by their names, none of whose pairs should be in training.
        vocabularies: of source and target; with them lengths are in tokens, and what they do not know is reported.
        examples: how many of each finding to show.

    Raises:
        CorpusError: if not even the first training pair can be read.
    """
    look = Look(vocabularies, examples)
    fault: CorpusError | None = None
    try:
        for block in blocks(text):
            look.at(block)
    except CorpusError as error:
        if not look.pairs:
            raise
        fault = error
    findings = [] if fault is None else [Finding("unreadable", str(fault), 1, is_fault=True)]
    findings += look.findings()
    findings += places_of_languages(text, look.models, look.pairs, examples)
    for name, other in (held_out or {}).items():
        try:
            findings += of_held_out(name, other, look, examples)
        except CorpusError as error:
            findings.append(Finding("unreadable", str(error), 1, is_fault=True))
    return CheckReport(text.name, look.pairs, tuple(look.histograms()), tuple(findings))


class Look:
    """One reading of a corpus.

    Attributes:
        pairs: how many there are.
        pair_hashes, source_hashes: [pairs] of each pair and each source.
        models: what each side's characters look like.
    """

    def __init__(self, vocabularies: tuple[Tokeniser, Tokeniser] | None, examples: int) -> None:
        self.vocabularies = vocabularies
        self.examples = examples
        self.pairs = 0
        self.hashes: list[NDArray[np.uint64]] = []
        self.lengths: list[NDArray[np.int32]] = []
        self.tokens: list[NDArray[np.int32]] = []
        self.models = SideModels()
        self.characters: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self.blank: list[int] = []
        self.copies: list[int] = []
        self.lost: tuple[list[str], list[str]] = ([], [])
        self.lost_counts = [0, 0]
        self.unknown_tokens = [0, 0]

    def at(self, block: list[Pair]) -> None:
        """Take in some more pairs."""
        sides = [[pair[side].strip() for pair in block] for side in (0, 1)]
        read = [(as_read(source), as_read(target)) for source, target in block]
        hashes = [[hashed(source, target), hashed(source)] for source, target in read]
        self.hashes.append(np.array(hashes, np.uint64))
        self.lengths.append(np.array([[len(one) for one in side] for side in sides], np.int32).T)
        for number, (source, target) in enumerate(read, start=self.pairs + 1):
            if not source or not target:
                self.blank.append(number)
            elif source == target:
                self.copies.append(number)
        for side, texts in enumerate(sides):
            self.models.learn(side, texts)
            self.characters[side].update("".join(texts))
        if self.vocabularies is not None:
            self.tokens.append(np.array([self.tokenise(n, side) for n, side in enumerate(sides)], np.int32).T)
        self.pairs += len(block)

    def tokenise(self, side: int, texts: list[str]) -> list[int]:
        """Tokens of each text; what is unknown or does not come back is noted."""
        assert self.vocabularies is not None
        vocabulary = self.vocabularies[side]
        rows = vocabulary.encode(texts)
        self.unknown_tokens[side] += sum(row.count(UNK_ID) for row in rows)
        for number, (text, back) in enumerate(zip(texts, vocabulary.decode(rows), strict=True), start=self.pairs + 1):
            if back != vocabulary.normalise(text):
                self.lost_counts[side] += 1
                if len(self.lost[side]) < self.examples:
                    self.lost[side].append(f"{number}: {shorten(text)} comes back as {shorten(back)}")
        return [len(row) for row in rows]

    def histograms(self) -> Iterator[Histogram]:
        """Lengths of both sides, and their ratios."""
        unit = "characters" if self.vocabularies is None else "tokens"
        lengths = np.concatenate(self.tokens or self.lengths)
        for side, name in enumerate(SIDES):
            yield Histogram.of(f"{name} length in {unit}", lengths[:, side], LENGTH_EDGES)
        whole = lengths[(lengths > 0).all(axis=1)]
        yield Histogram.of(f"target over source, in {unit}", whole[:, 1] / whole[:, 0], RATIO_EDGES)

    def findings(self) -> list[Finding]:
        """What one reading tells."""
        found = []
        if len(self.blank) == self.pairs:
            message = f"all {self.pairs:,} pairs have a blank side, and training drops these: nothing is left"
            found.append(Finding("blank", message, self.pairs, is_fault=True))
        elif self.blank:
            found.append(self.on_lines("blank", "pairs with a blank side, which training drops", self.blank))
        hashes = np.concatenate(self.hashes)
        repeated = repeats(hashes[:, 0])
        if len(repeated):
            found.append(self.on_lines("duplicate", "pairs that stand there before", (repeated + 1).tolist()))
        if self.copies and len(self.copies) == self.pairs:
            message = f"all {self.pairs:,} pairs have two sides that are the same: there is nothing to learn"
            found.append(Finding("copy", message, self.pairs, is_fault=True))
        elif self.copies:
            found.append(self.on_lines("copy", "pairs whose two sides are the same", self.copies))
        for first, last, shift in misaligned(*np.concatenate(self.lengths).T):
            moved = f"target lines look moved by {shift:+d}" if shift else "lengths do not go together"
            found.append(Finding("misaligned", f"lines {first:,} to {last:,}: {moved}", last - first + 1))
        if self.vocabularies is not None:
            found += [finding for side in (0, 1) for finding in self.unknown(side)]
        return found

    def unknown(self, side: int) -> list[Finding]:
        """What the vocabulary of a side does not know."""
        assert self.vocabularies is not None
        found, vocabulary = [], self.vocabularies[side]
        characters = [one for one in self.characters[side] if not one.isspace()]
        unknown = Counter(
            {
                one: self.characters[side][one]
                for one, row in zip(characters, vocabulary.encode(characters), strict=True)
                if UNK_ID in row
            }
        )
        if unknown:
            shown = ", ".join(f"{one!r} {count:,} times" for one, count in unknown.most_common(10))
            message = f"{len(unknown):,} characters of the {SIDES[side]} side are unknown to its vocabulary: {shown}"
            found.append(Finding("unknown characters", message, len(unknown)))
        if self.unknown_tokens[side]:
            message = f"{self.unknown_tokens[side]:,} tokens of the {SIDES[side]} side are <unk>"
            found.append(Finding("unknown tokens", message, self.unknown_tokens[side]))
        if self.lost_counts[side]:
            message = f"{self.lost_counts[side]:,} texts of the {SIDES[side]} side do not come back from its vocabulary"
            found.append(Finding("round trip", message, self.lost_counts[side], examples=tuple(self.lost[side])))
        return found

    def on_lines(self, kind: str, what: str, lines: list[int]) -> Finding:
        shown = ", ".join(f"{number:,}" for number in lines[: self.examples])
        more = ", ..." if len(lines) > self.examples else ""
        share = len(lines) / self.pairs
        return Finding(kind, f"{len(lines):,} ({share:.1%}) {what}: line {shown}{more}", len(lines))


def places_of_languages(text: ParallelText, models: SideModels, pairs: int, examples: int) -> list[Finding]:
    """Pairs whose sides look swapped, or of which one looks like the other's language."""
    kinds = {"swapped": "pairs look swapped", "source language": "sources look like targets"}
    kinds["target language"] = "targets look like sources"
    counts, shown = Counter[str](), {kind: list[str]() for kind in kinds}
    start = 0
    for block in blocks(text, pairs):
        sides = [[pair[side].strip() for pair in block] for side in (0, 1)]
        wrong = [
            (models.preference(side, texts) < -MARGIN) & (np.array([len(one) for one in texts]) >= FEWEST)
            for side, texts in enumerate(sides)
        ]
        for kind, flags in zip(kinds, (wrong[0] & wrong[1], wrong[0] & ~wrong[1], wrong[1] & ~wrong[0]), strict=True):
            numbers = np.flatnonzero(flags)
            counts[kind] += len(numbers)
            for number in numbers[: examples - len(shown[kind])]:
                shown[kind].append(f"{start + number + 1}: {shorten(sides[0][number])} | {shorten(sides[1][number])}")
        start += len(block)
    return [
        Finding(kind, f"{counts[kind]:,} {what}", counts[kind], examples=tuple(shown[kind]))
        for kind, what in kinds.items()
        if counts[kind]
    ]


def of_held_out(name: str, other: ParallelText, look: Look, examples: int) -> list[Finding]:
    """Pairs, and sources, of a held-out set that stand in training too; and whether all of it is blank."""
    seen = np.concatenate(look.hashes)
    pairs, sources = (np.unique(seen[:, column]) for column in (0, 1))
    hits: dict[str, list[str]] = {"pairs": [], "sources": []}
    total = blank = 0
    for number, (source, target) in enumerate(other, start=1):
        total += 1
        source, target = as_read(source), as_read(target)
        if not (source and target):  # Training has no such pairs.
            blank += 1
        elif contains(pairs, hashed(source, target)):
            hits["pairs"].append(f"{number}: {shorten(source)} | {shorten(target)}")
        elif contains(sources, hashed(source)):
            hits["sources"].append(f"{number}: {shorten(source)}")
    found = []
    if blank == total:
        message = f"all {total:,} pairs of {name} have a blank side, so that its scores would say nothing"
        found.append(Finding(f"blank in {name}", message, total, is_fault=True))
    for what, lines in hits.items():
        if lines:
            also = "" if what == "pairs" else ", with another target"
            message = f"{len(lines):,} of {total:,} {what} of {name} stand in training too{also}"
            found.append(Finding(f"{what} in {name}", message, len(lines), what == "pairs", tuple(lines[:examples])))
    return found


def blocks(text: ParallelText, most: int | None = None) -> Iterator[list[Pair]]:
    """The first `most` pairs, in blocks; the ones before a fault are given out before it is raised."""
    block: list[Pair] = []
    fault = None
    try:
        for pair in islice(iter(text), most):
            block.append(pair)
            if len(block) == BLOCK:
                yield block
                block = []
    except CorpusError as error:
        fault = error
    if block:
        yield block
    if fault is not None:
        raise fault


def hashed(*texts: str) -> int:
    """64 bits of a text or of several."""
    digest = hashlib.blake2b("\0".join(texts).encode(errors="replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def repeats(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a value stands that stood there before."""
    is_first = np.zeros(len(hashes), bool)
    is_first[np.unique(hashes, return_index=True)[1]] = True
    return np.flatnonzero(~is_first)


def contains(values: NDArray[np.uint64], value: int) -> bool:
    """Whether a sorted array holds a value."""
    place = int(np.searchsorted(values, np.uint64(value)))
    return place < len(values) and int(values[place]) == value
