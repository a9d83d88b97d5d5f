"""Pairs of text from files and data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from seq2seq.corpus.files import StrPath, one_line, read_text, shorten
from seq2seq.corpus.pairs import Pair, ParallelText, check_text
from seq2seq.errors import ConfigError, CorpusError


def read_lines(source_path: StrPath, target_path: StrPath) -> ParallelText:
    """Two files: line n of the one is the translation of line n of the other.

    Raises:
        CorpusError: while the pairs are read, not at the call: if a file cannot be used (see `read_text`), or one has
            more lines than the other.
    """

    def read() -> Iterator[Pair]:
        sources, targets = read_text(source_path), read_text(target_path)
        for count, (source, target) in enumerate(zip_longest(sources, targets)):
            if source is None or target is None:
                longer = count + 1 + sum(1 for _ in (targets if source is None else sources))
                counts = (count, longer) if source is None else (longer, count)
                raise CorpusError(
                    f"both files must have as many lines, got {counts[0]} in {source_path} and {counts[1]} in "
                    f"{target_path}; find where they come apart, or align them again"
                )
            yield source, target

    return ParallelText(f"{source_path} | {target_path}", read, (source_path, target_path), "lines")


def read_tsv(path: StrPath, columns: tuple[int, int] = (0, 1)) -> ParallelText:
    """One file whose columns are separated by tabs. There is no quoting: a quotation mark is text.

    Args:
        path: the file.
        columns: where source and target stand, counted from 0.

    Raises:
        ConfigError: at the call, for columns below 0.
        CorpusError: while the pairs are read: if the file cannot be used (see `read_text`), or a line has too few
            columns.
    """
    if min(columns) < 0:
        raise ConfigError(f"columns are counted from 0, got {columns}")

    def read() -> Iterator[Pair]:
        for number, line in enumerate(read_text(path), start=1):
            fields = line.split("\t")
            if len(fields) <= max(columns):
                name = ", or end the name of JSON lines in .jsonl" if line.startswith(("{", "[")) else ""
                raise CorpusError(
                    f"{path}:{number}: must have {max(columns) + 1} columns separated by tabs, got {len(fields)}; "
                    f"mend the line or choose other columns{name}"
                )
            yield fields[columns[0]], fields[columns[1]]

    return ParallelText(str(path), read, (path,), f"columns {columns}")


def read_jsonl(path: StrPath, keys: tuple[str, str] = ("source", "target")) -> ParallelText:
    """One file with a JSON object on every line.

    Args:
        path: the file.
        keys: of source and target; `translation.de` looks for `de` inside of `translation`.

    Raises:
        CorpusError: while the pairs are read, not at the call: if the file cannot be used (see `read_text`), or a line
            is no JSON object with text under both keys.
    """

    def read() -> Iterator[Pair]:
        for number, line in enumerate(read_text(path), start=1):
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                given = shorten(line) if line.strip() else "a blank line"
                raise CorpusError(f"{place}: must be a JSON object, got {given} ({error}); mend it") from None
            yield _field(row, keys[0], place), _field(row, keys[1], place)

    return ParallelText(str(path), read, (path,), f"keys {keys}")


def read_hub(name: str, split: str, keys: tuple[str, str], config: str | None = None) -> ParallelText:
    """A data set of the Hugging Face Hub, or a local folder that `datasets` understands.

    It is fetched when it is first read, and then kept by `datasets`.

    Args:
        name: such as `bentrevett/multi30k`.
        split: such as `train`.
        keys: columns of source and target; `translation.de` looks for `de` inside of `translation`.
        config: the data set's configuration, where it has several.

    Raises:
        CorpusError: while the pairs are read, not at the call: if the data set cannot be loaded, is empty, or a row has
            no text under one of the keys.
    """
    place = f"{name}/{config}/{split}" if config else f"{name}/{split}"

    def read() -> Iterator[Pair]:
        # Slow to import, and needed by this function alone.
        import datasets

        try:
            rows = datasets.load_dataset(name, config, split=split)
        except Exception as error:  # Dozens of kinds, from a wrong name to no network.
            raise CorpusError(f"{place}: cannot be loaded ({one_line(error)}); check name, split and network") from None
        number = 0
        for number, row in enumerate(rows, start=1):
            yield _field(row, keys[0], f"{place}:{number}"), _field(row, keys[1], f"{place}:{number}")
        if number == 0:
            raise CorpusError(f"{place}: is empty; choose another split")

    return ParallelText(place, read)


def _field(row: Any, key: str, place: str) -> str:
    """The text under a key, which may lead into objects inside of the row."""
    value = row
    for part in [key] if isinstance(row, Mapping) and key in row else key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            found = ", ".join(map(str, value)) if isinstance(value, Mapping) else shorten(repr(value))
            raise CorpusError(f"{place}: has no {key!r}, got {found}; choose other keys")
        value = value[part]
    # A text is a line.
    return check_text(value, f"{place}: {key!r}").replace("\n", " ")
