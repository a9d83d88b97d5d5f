"""Showing on a terminal that something takes its time, and how far it has come."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")

SOON = 100_000
"""Pairs that are read before anybody wonders."""


def watched(pairs: Iterable[Item], doing: str, total: int | None = None) -> Iterator[Item]:
    """The same pairs. Of many, their number is shown on stderr while they are read, if that is a terminal.

    Args:
        pairs: any.
        doing: what is done, such as `Reading train.tsv`.
        total: how many pairs there are, if that is known.
    """
    rest = iter(pairs)
    yield from islice(rest, SOON)
    more = list(islice(rest, 1))
    yield from more
    if not more or not sys.stderr.isatty():
        yield from rest
        return
    # Slow to import, and needed by long readings alone.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(rest, total, SOON + 1, description=doing)


def waited(doing: str) -> AbstractContextManager[Any]:
    """For the time of a `with` block, what is done is shown on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(f"{doing} ..."))
