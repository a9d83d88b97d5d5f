"""A parallel corpus as token ids in Arrow files: written once, mapped into memory, never held there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow
from numpy.typing import NDArray

from seq2seq.config import EOS_ID, PAD_ID
from seq2seq.corpus import Pair
from seq2seq.corpus.facts import write_whole
from seq2seq.data.plan import Indices, Lengths
from seq2seq.errors import CorpusError

_FORMAT = 2
"""To be raised whenever the same text and vocabulary give another file."""

_BLOCK = 20_000
"""Pairs that are tokenised, and written, together."""

_TOKEN_BYTES = 4

Block = tuple[Indices, Sequence[list[list[int]]]]
"""Numbers of some pairs in the corpus, and for each side the ids of each pair, without `<E>`."""

_SIDES = ("source", "target")
_SCHEMA = pyarrow.schema([*((side, pyarrow.list_(pyarrow.int32())) for side in _SIDES), ("index", pyarrow.int64())])


class Tokens:
    """Pairs of token ids, each side ending in `<E>`.

    In memory are the lengths. Where a row lies is looked up in mapped memory; the row itself is read from its file,
    because the system counts what was read of a map as this process's memory, and at last that would be all of it.

    Attributes:
        folder: where they lie.
        lengths: [pairs, 2] tokens of source and target, `<E>` included.
        dropped: how many pairs of the corpus are not here, by reason.
    """

    folder: Path
    lengths: Lengths
    dropped: dict[str, int]

    def __init__(self, folder: Path) -> None:
        """Open the files of a folder that `tokenise` wrote."""
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.dropped = summary["dropped"]
        self.lengths = np.empty((summary["kept"], 2), np.int32)
        # Arrow keeps a file in chunks; the tokens of a row are those from `offsets[row]` to `offsets[row + 1]`.
        self._chunks: list[_Chunk] = []
        descriptors: list[int] = []
        weakref.finalize(self, _close, descriptors)
        starts = [0]
        for name in summary["files"]:
            descriptors.append(os.open(folder / name, os.O_RDONLY))
            for chunk in _chunks(folder / name, descriptors[-1]):
                part = slice(starts[-1], starts[-1] + len(chunk.indices))
                for side, offsets in enumerate(chunk.offsets):
                    np.subtract(offsets[1:], offsets[:-1], out=self.lengths[part, side])
                self._chunks.append(chunk)
                starts.append(part.stop)
        if starts[-1] != summary["kept"]:
            raise ValueError(f"{folder} is truncated")
        self._chunk_starts = np.array(starts)

    def fact(self, name: str, compute: Callable[[], int]) -> int:
        """A number that these tokens and its name decide and that is slow to find: kept beside them for later."""
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
        return np.concatenate([chunk.indices for chunk in self._chunks])

    def numbers(self, rows: Indices) -> NDArray[np.int64]:
        """[rows] numbers of some pairs in the corpus, counted from 0."""
        return np.fromiter((chunk.indices[row] for chunk, row in self._places(rows)), np.int64, len(rows))

    def padded(self, side: int, rows: Indices) -> NDArray[np.int64]:
        """[rows, steps] ids of side 0 or 1, filled up with `<pad>`."""
        lengths = self.lengths[rows, side]
        ids = np.full((len(rows), lengths.max(initial=0)), PAD_ID, np.int64)
        for ids_of_row, (chunk, row), length in zip(ids, self._places(rows), lengths.tolist(), strict=True):
            ids_of_row[:length] = chunk.read(side, row, length)
        return ids

    def _places(self, rows: Indices) -> Iterator[tuple[_Chunk, int]]:
        """The chunk of each row, and its place in it."""
        numbers = np.searchsorted(self._chunk_starts, rows, side="right") - 1
        places = (rows - self._chunk_starts[numbers]).tolist()
        return zip((self._chunks[number] for number in numbers.tolist()), places, strict=True)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some rows of a file.

    Attributes:
        descriptor: of the file.
        indices: [rows] numbers of the pairs in the corpus.
        offsets: of each side, [rows + 1], in tokens from the first of the chunk.
        starts: of each side, where in the file its tokens begin, in bytes.
    """

    descriptor: int
    indices: NDArray[np.int64]
    offsets: list[NDArray[np.int32]]
    starts: list[int]

    def read(self, side: int, row: int, length: int) -> NDArray[np.int32]:
        """The tokens of a row."""
        place = self.starts[side] + _TOKEN_BYTES * int(self.offsets[side][row])
        return np.frombuffer(os.pread(self.descriptor, _TOKEN_BYTES * length, place), np.int32)


def _chunks(path: Path, descriptor: int) -> Iterator[_Chunk]:
    with pyarrow.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer()  # It outlasts the file object, as long as an array looks into it.
    for rows in pyarrow.ipc.open_stream(whole):
        sides = [rows.column(side) for side in _SIDES]
        addresses = [side.values.to_numpy().__array_interface__["data"][0] for side in sides]
        yield _Chunk(
            descriptor,
            rows.column("index").to_numpy(),
            [side.offsets.to_numpy() for side in sides],
            [address - whole.address for address in addresses],
        )


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


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
    if (found := open_tokens(folder)) is not None:
        return found
    part = folder.with_name(f"{folder.name}.part" if goes_on else f"{folder.name}.{uuid4().hex}.part")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        part.mkdir(parents=True, exist_ok=True)
        write(part)
        # Another process may have been quicker; a folder is never there before it is whole.
        if not folder.exists():
            part.rename(folder)
    except OSError as error:
        if (found := open_tokens(folder)) is not None:  # The other process has moved the folder away.
            return found
        raise CorpusError(
            f"{folder.parent}: cannot keep tokens ({error.strerror or error}); make room, or choose another cache "
            "(of a recipe: another --out)"
        ) from None
    finally:
        if not goes_on:
            shutil.rmtree(part, ignore_errors=True)
    if (found := open_tokens(folder)) is None:
        raise CorpusError(f"{folder}: cannot be read, although it was written; choose another cache")
    return found


def open_tokens(folder: Path) -> Tokens | None:
    """The tokens of a folder; `None` if it is missing, truncated, or written by something else.

    Raises:
        CorpusError: if more files must be open than this process may.
    """
    try:
        return Tokens(folder)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise CorpusError(
                f"{folder}: cannot open all its files ({error.strerror}); allow more with ulimit -n"
            ) from None
        return None


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
