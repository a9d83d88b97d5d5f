"""Pairs of text that can be read again and again."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from seq2seq.corpus.facts import Tally, write_quietly
from seq2seq.corpus.files import StrPath, shorten
from seq2seq.corpus.watching import watched
from seq2seq.errors import ConfigError, CorpusError

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """Which pairs are of use in training; validation and translation drop nothing.

    Lengths are in tokens and do not count `<E>`. `None`: no such limit.
    """

    max_length: int | None = 256
    """Of the longer side."""
    max_ratio: float | None = 9.0
    """Longer side over shorter side."""

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(f"max_length must be at least 1, got {self.max_length}; None keeps pairs of any length")
        if self.max_ratio is not None and not 1 <= self.max_ratio < math.inf:
            raise ConfigError(f"max_ratio must be at least 1, got {self.max_ratio}; None keeps pairs of any ratio")


class ParallelText:
    """Pairs of source and target text that can be read again and again, without being held in memory.

    Attributes:
        name: where the pairs come from, for messages.

    Args:
        read: begins at the first pair each time; raises `CorpusError` at a fault.
        files: what the pairs are read from; while these are unchanged, so are the pairs. Empty: changes cannot be
            noticed.
        selection: tells apart different pairs of the same files, such as `columns (0, 1)`.
    """

    def __init__(
        self, name: str, read: Callable[[], Iterator[Pair]], files: Sequence[StrPath] = (), selection: str = ""
    ) -> None:
        self.name = name
        self.files = tuple(files)
        self.selection = selection
        self._read = read
        self._facts: tuple[int, str] | None = None
        self._read_at: str | None = None
        """The stamp at which the facts were true."""

    def __iter__(self) -> Iterator[Pair]:
        return self._read()

    def __len__(self) -> int:
        return self._count_and_fingerprint()[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pairs, in hexadecimal: equal for equal text, from whatever kind of file."""
        return self._count_and_fingerprint()[1]

    def stamp(self) -> str | None:
        """Names, sizes, times and inodes of the files, and the selection: while they are equal, so is the text, which
        need not be read. `None`: changes cannot be noticed."""
        try:
            facts = [(os.path.abspath(path), os.stat(path)) for path in self.files]
        except OSError:  # Missing, or a file inside of an archive.
            return None
        return (
            json.dumps(
                [self.selection, [(name, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino) for name, at in facts]]
            )
            if facts
            else None
        )

    def changed(self, doing: str) -> CorpusError:
        """What to tell where the stamp is another one after it was `doing`: tokenised, or learnt from."""
        return CorpusError(f"{self.name}: must stay as it is while it is {doing}, and has changed; start again")

    def set_facts(self, count: int, fingerprint: str, stamp: str | None) -> None:
        """Take count and fingerprint from who has read the same text, instead of reading it; `stamp` is that of before
        the reading."""
        self._facts, self._read_at = (count, fingerprint), stamp

    def load_facts(self, cache: StrPath) -> bool:
        """Take count and fingerprint from the cache; False if they are not there or the files may have changed."""
        stamp = self.stamp()
        if (path := self._place(cache, "json", stamp)) is None:
            return False
        try:
            count, fingerprint = json.loads(path.read_text(encoding="utf-8"))
            self.set_facts(int(count), str(fingerprint), stamp)
        except (OSError, ValueError, TypeError):
            return False
        return True

    def save_facts(self, cache: StrPath) -> None:
        """Keep count and fingerprint in the cache, reading the text if need be; does nothing without a `stamp`.

        Raises:
            CorpusError: at the first fault, where it must be read.
        """
        facts = self._count_and_fingerprint()
        if (path := self._place(cache, "json", self._read_at)) is not None:
            write_quietly(path, json.dumps(facts).encode())

    def with_facts(self, cache: StrPath) -> ParallelText:
        """This text, its count and fingerprint loaded from the cache, or found by reading it and saved there.

        Raises:
            CorpusError: at the first fault, where it must be read.
        """
        if not self.load_facts(cache):
            self.save_facts(cache)
        return self

    def kept_pairs(self, cache: StrPath) -> list[Pair]:
        """All pairs, kept in the cache like count and fingerprint: for a small part of a large corpus.

        Raises:
            CorpusError: at the first fault, where it must be read.
        """
        path = self._place(cache, "pairs.json", self.stamp())
        if path is None:
            return list(self)
        with suppress(OSError, ValueError, TypeError):
            return [(source, target) for source, target in json.loads(path.read_text(encoding="utf-8"))]
        pairs = list(self)
        write_quietly(path, json.dumps(pairs).encode())
        return pairs

    def _place(self, cache: StrPath, suffix: str, stamp: str | None) -> Path | None:
        """Where facts about the text of this stamp are kept; `None`: changes cannot be noticed."""
        if stamp is None:
            return None
        return Path(cache) / "texts" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.{suffix}"

    def check(self) -> ParallelText:
        """Read all of it once, unless its count and fingerprint are known: a fault is found now rather than in the
        middle of something.

        Raises:
            CorpusError: at the first fault.
        """
        self._count_and_fingerprint()
        return self

    def check_not_blank(self) -> ParallelText:
        """Look for a pair with text on both sides, which is nearly always the first.

        Raises:
            CorpusError: if there is none, or at a fault before it.
        """
        if not any(source.strip() and target.strip() for source, target in self):
            raise CorpusError(
                f"{self.name}: must have a pair with text on both sides, got blank ones alone; give other text"
            )
        return self

    def sources(self) -> Iterator[str]:
        """The source side."""
        return (source for source, _ in self)

    def targets(self) -> Iterator[str]:
        """The target side."""
        return (target for _, target in self)

    def _count_and_fingerprint(self) -> tuple[int, str]:
        """Both, by reading the text where they are not known yet or its files have changed."""
        stamp = self.stamp()
        if self._facts is None or (stamp is not None and stamp != self._read_at):
            tally = Tally()
            for pair in watched(self, f"Reading {self.name}"):
                tally.add(pair)
            self._facts, self._read_at = (tally.count, tally.fingerprint), stamp
        return self._facts

    def __repr__(self) -> str:
        return f"ParallelText({self.name!r})"


def from_pairs(pairs: Iterable[Pair], name: str = "pairs") -> ParallelText:
    """Pairs that are in memory.

    Raises:
        CorpusError: at the call, if there are none, one is no pair, or a side is no text or holds NUL or half a
            surrogate pair.
    """
    kept = [_pair(pair, f"{name}:{number}") for number, pair in enumerate(pairs, start=1)]
    if not kept:
        raise CorpusError(f"{name}: is empty; give at least one pair")
    return ParallelText(name, lambda: iter(kept))


def _pair(value: Any, place: str) -> Pair:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise CorpusError(f"{place}: must be a pair (source, target), got {shorten(repr(value))}; leave it out")
    source, target = value
    return check_text(source, place), check_text(target, place)


def as_read(text: str) -> str:
    """What a vocabulary reads, be the spaces or the code points others: equal for what is one text to it."""
    return normalize("NFC", " ".join(text.split()))


def check_text(value: Any, place: str) -> str:
    """The value, if it is text.

    Raises:
        CorpusError: if it is not, or holds NUL or half a surrogate pair; the message begins with `place`.
    """
    if not isinstance(value, str):
        raise CorpusError(f"{place}: must be text, got {shorten(repr(value))}; leave it out, or give a text")
    if "\0" in value:
        raise CorpusError(f"{place}: holds NUL (character {value.index(chr(0))}), so it is no text; remove it")
    if not value.isascii() and (half := next((c for c in value if "\ud800" <= c <= "\udfff"), None)):
        raise CorpusError(
            f"{place}: holds {half!r}, half of a surrogate pair, so it is no text; encode it as UTF-8 again"
        )
    return value
