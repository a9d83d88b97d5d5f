"""Parallel text by the name of where it is, as one types it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from seq2seq.corpus.files import PACKINGS
from seq2seq.corpus.pairs import ParallelText
from seq2seq.corpus.readers import read_hub, read_jsonl, read_lines, read_tsv
from seq2seq.errors import ConfigError

COLUMNS, KEYS = (1, 2), ("source", "target")
"""Where source and target stand if nothing else is said."""

HUB = "hub:"

JSON_LINES = (".jsonl", ".ndjson")
"""How the names of JSON lines end, packed or not, in capitals or not."""


def check_fields(sets: Sequence[Sequence[str]], columns: tuple[int, int], keys: tuple[str, str]) -> None:
    """Refuse columns or keys that say nothing about any of these sets of places.

    Raises:
        ConfigError: else source and target would silently stay as they are.
    """
    for name, (source, target) in (("columns", columns), ("keys", keys)):
        if source == target:
            raise ConfigError(f"{name} must be two, of source and target, got {source} for both")
    single = [places[0] for places in sets if len(places) == 1]
    with_keys = [place for place in single if has_keys(place)]
    if keys != KEYS and not with_keys:
        found, mend = (" ".join(single), ", or end the name of JSON lines in .jsonl") if single else ("none", "")
        raise ConfigError(
            f"keys are those of JSON lines and data sets, got {' '.join(keys)} and {found}; leave them out{mend}"
        )
    if columns != COLUMNS and len(single) == len(with_keys):
        raise ConfigError(f"columns are those of a TSV, got {columns[0]} {columns[1]} and none; leave them out")


def has_keys(place: str) -> bool:
    """Whether the text there has a key for each side, rather than a column."""
    path = Path(place.lower())
    return place.startswith(HUB) or (Path(path.stem) if path.suffix in PACKINGS else path).suffix in JSON_LINES


def read_places(
    places: Sequence[str], columns: tuple[int, int] = COLUMNS, keys: tuple[str, str] = KEYS
) -> ParallelText:
    """Two files line by line, a TSV, JSON lines (`.jsonl`, `.ndjson`), or a data set of the Hub: see `read_hub_place`.

    Args:
        places: one, or two files.
        columns: of a TSV, counted from 1.
        keys: of JSON lines and data sets.

    Raises:
        ConfigError: if there are more places than two, one is a pipe, a column is below 1, or a data set
            has too many parts.
    """
    if not 1 <= len(places) <= 2:
        raise ConfigError(f"give one place or two files, got {len(places)}; join files of the same language first")
    for path in places:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ConfigError(f"a corpus is read several times, got {path}, which can be read once; give a file")
    if len(places) == 2:
        return read_lines(*places)
    (place,) = places
    if place.startswith(HUB):
        return read_hub_place(place, keys)
    if has_keys(place):
        return read_jsonl(place, keys)
    if min(columns) < 1:
        raise ConfigError(f"--columns are counted from 1, got {columns[0]} {columns[1]}")
    return read_tsv(place, (columns[0] - 1, columns[1] - 1))


def read_hub_place(place: str, keys: tuple[str, str]) -> ParallelText:
    """A part of a data set: `hub:NAME:PART`, or `hub:NAME:CONFIGURATION:PART` where it has several configurations, such
    as a pair of languages each; without a part it is `train`.

    Raises:
        ConfigError: if it is none of these.
    """
    # A part may be a slice, as train[:1000].
    match re.split(r":(?![^\[]*\])", place.removeprefix(HUB)):
        case ["", *_]:
            pass
        case [name]:
            return read_hub(name, "train", keys)
        case [name, part]:
            return read_hub(name, part or "train", keys)
        case [name, configuration, part]:
            return read_hub(name, part or "train", keys, configuration)
    raise ConfigError(f"a data set is hub:NAME, hub:NAME:PART or hub:NAME:CONFIGURATION:PART, got {place}")
