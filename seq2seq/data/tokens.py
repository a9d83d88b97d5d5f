"""A parallel corpus as token ids in Arrow files: written once, mapped into memory, never held there."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from seq2seq.config import EOS_ID, PAD_ID
from seq2seq.corpus import Pair
from seq2seq.data.plan import Indices, Lengths
from seq2seq.errors import CorpusError

_FORMAT = 2
"""To be raised whenever the same text and vocabulary give another file."""

_BLOCK = 20_000
"""Pairs that are tokenised, and written, together."""

_MANY_ROWS = 500
"""Rows after which mapped memory is given back: each may have brought sixteen pages with it."""

Block = tuple[Indices, Sequence[list[list[int]]]]
"""Numbers of some pairs in the corpus, and for each side the ids of each pair, without `<E>`."""

_SIDES = ("source", "target")
_SCHEMA = pyarrow.schema([*((side, pyarrow.list_(pyarrow.int32())) for side in _SIDES), ("index", pyarrow.int64())])


class Tokens:
    """Pairs of token ids, each side ending in `<E>`.

    In memory are the lengths alone: what is mapped and was read is given back again and again, for the system counts it
    as this process's memory although it could drop it at any time.

    Attributes:
        folder: where they lie.
        lengths: [pairs, 2] tokens of source and target, `<E>` included.
        dropped: how many pairs of the corpus are not here, by reason.
    """

    folder: Path
    lengths: Lengths
    dropped: dict[str, int]

    def __init__(self, folder: Path) -> None:
        """Map the files of a folder that `tokenise` wrote."""
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.dropped = summary["dropped"]
        self._maps = [_map(folder / name) for name in summary["files"]]
        # Arrow keeps a file in chunks; `values[offsets[row] : offsets[row + 1]]` of a chunk are the tokens of a row.
        chunks = [chunk for mapped in self._maps for chunk in pyarrow.ipc.open_stream(pyarrow.py_buffer(mapped))]
        self._chunk_starts = np.cumsum([0, *map(len, chunks)])
        if self._chunk_starts[-1] != summary["kept"]:
            raise ValueError(f"{folder} is truncated")
        self._indices = [chunk.column("index").to_numpy() for chunk in chunks]
        self._values = [[chunk.column(side).values.to_numpy() for chunk in chunks] for side in _SIDES]
        self._offsets = [[chunk.column(side).offsets.to_numpy() for chunk in chunks] for side in _SIDES]
        self.lengths = np.empty((summary["kept"], 2), np.int32)
        for side, parts in enumerate(self._offsets):
            for start, part in zip(self._chunk_starts, parts, strict=False):
                np.subtract(part[1:], part[:-1], out=self.lengths[start : start + len(part) - 1, side])
        self._touched = 0
        self._give_back()

    def fact(self, name: str, compute: Callable[[], int]) -> int:
        """A number that these tokens alone decide and that is slow to find: kept beside them for the next time."""
        path = self.folder / f"{name}.json"
        try:
            return int(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            value = compute()
        with suppress(OSError):  # It only makes the next start quicker.
            write_whole(path, json.dumps(value).encode())
        return value

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def indices(self) -> Indices:
        """[pairs] numbers of all pairs in the corpus, counted from 0."""
        return np.concatenate(self._indices)

    def numbers(self, rows: Indices) -> NDArray[np.int64]:
        """[rows] numbers of some pairs in the corpus, counted from 0."""
        return np.fromiter((self._indices[chunk][row] for chunk, row in self._places(rows)), np.int64, len(rows))

    def padded(self, side: int, rows: Indices) -> NDArray[np.int64]:
        """[rows, steps] ids of side 0 or 1, filled up with `<pad>`."""
        lengths = self.lengths[rows, side]
        ids = np.full((len(rows), lengths.max(initial=0)), PAD_ID, np.int64)
        # A slice per row is quicker than one gather of all of them: rows lie together in the file.
        for ids_of_row, (chunk, row), length in zip(ids, self._places(rows), lengths.tolist(), strict=True):
            start = self._offsets[side][chunk][row]
            ids_of_row[:length] = self._values[side][chunk][start : start + length]
        self._touched += len(rows)
        if self._touched >= _MANY_ROWS:
            self._give_back()
        return ids

    def _places(self, rows: Indices) -> Iterator[tuple[int, int]]:
        """The chunk of each row, and its place in it."""
        chunks = np.searchsorted(self._chunk_starts, rows, side="right") - 1
        return zip(chunks.tolist(), (rows - self._chunk_starts[chunks]).tolist(), strict=True)

    def _give_back(self) -> None:
        """Let go of the pages that were read; they come back from the system's cache when they are read again."""
        self._touched = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def cache_folder(cache: Path, key: Sequence[Any]) -> Path:
    """Where the tokens are kept that a key names."""
    return Path(cache) / hashlib.sha256(json.dumps([_FORMAT, *key]).encode()).hexdigest()[:32]


def keep_tokens(folder: Path, write: Callable[[Path], None], goes_on: bool = False) -> Tokens:
    """The tokens of a folder; where they are not there or not whole, they are written first.

    Args:
        folder: appears when it is whole, or not at all.
        write: fills a folder of another name.
        goes_on: what `write` wrote before it failed or was killed is left for the next time.

    Raises:
        CorpusError: if the folder cannot be written, or from `write`.
    """
    with suppress(OSError, ValueError, KeyError):  # Missing, truncated, or written by something else.
        return Tokens(folder)
    part = folder.with_name(f"{folder.name}.part" if goes_on else f"{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        part.mkdir(parents=True, exist_ok=True)
        write(part)
        # Another process may have been quicker; a folder is never there before it is whole.
        if not folder.exists():
            part.rename(folder)
    except OSError as error:
        with suppress(OSError, ValueError, KeyError):  # The other process has moved the folder away.
            return Tokens(folder)
        raise CorpusError(
            f"{folder.parent}: cannot keep tokens ({error.strerror or error}); choose another cache"
        ) from None
    finally:
        if not goes_on:
            shutil.rmtree(part, ignore_errors=True)
    return Tokens(folder)


def write_blocks(part: Path, blocks: Iterable[Block], dropped: Counter[str]) -> int:
    """Write what `Tokens` reads; how many pairs it is. `dropped` is looked at when the blocks are through."""
    kept = write_file(part / "tokens.arrow", blocks)
    write_summary(part, kept, dropped, ["tokens.arrow"])
    return kept


def write_file(path: Path, blocks: Iterable[Block]) -> int:
    """Write one file of pairs; how many it is."""
    # Slow to import, and not needed where all is tokenised.
    from datasets.arrow_writer import ArrowWriter

    kept = 0
    with ArrowWriter(path=str(path), schema=_SCHEMA) as writer:
        for indices, sides in blocks:
            columns = [*map(_column, sides), pyarrow.array(indices)]
            writer.write_table(pyarrow.table(columns, schema=_SCHEMA), writer_batch_size=_BLOCK)
            kept += len(indices)
        writer.finalize()
    return kept


def write_summary(part: Path, kept: int, dropped: Counter[str], files: Sequence[str]) -> None:
    """Say what a folder holds, by which it is whole."""
    summary = {"kept": kept, "dropped": dict(+dropped), "files": list(files)}
    write_whole(part / "summary.json", json.dumps(summary).encode())


def write_whole(path: Path, content: bytes) -> None:
    """After a crash there is the old file, the new one, or none."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def _column(side: list[list[int]]) -> Any:
    rows = [[*ids, EOS_ID] for ids in side]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    tokens = np.fromiter(chain.from_iterable(rows), np.int32, count=offsets[-1])
    return pyarrow.ListArray.from_arrays(offsets, tokens)


def numbered_blocks(pairs: Iterable[Pair], start: int = 0) -> Iterator[tuple[int, list[Pair]]]:
    """The pairs in blocks, each with the number of its first pair; `start` is that of the first of all."""
    pairs = iter(pairs)
    while block := list(islice(pairs, _BLOCK)):
        yield start, block
        start += len(block)
