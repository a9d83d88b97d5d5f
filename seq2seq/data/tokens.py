"""A parallel corpus as token ids in an Arrow file: written once, mapped into memory, never held there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from seq2seq.config import EOS_ID, PAD_ID
from seq2seq.corpus import Limits, Pair, ParallelText
from seq2seq.data.plan import Indices, Lengths
from seq2seq.errors import CorpusError
from seq2seq.vocabulary import Vocabulary

_FORMAT = 1
"""To be raised whenever the same text and vocabulary give another file."""

_BLOCK = 20_000
"""Pairs that are tokenised, and written, together."""

Block = tuple[Indices, Sequence[list[list[int]]]]
"""Numbers of some pairs in the corpus, and for each side the ids of each pair, without `<E>`."""

_SIDES = ("source", "target")
_SCHEMA = pyarrow.schema([*((side, pyarrow.list_(pyarrow.int32())) for side in _SIDES), ("index", pyarrow.int64())])


class Tokens:
    """Pairs of token ids, each side ending in `<E>`.

    Attributes:
        lengths: [pairs, 2] tokens of source and target, `<E>` included.
        indices: [pairs] numbers of the pairs in the corpus, counted from 0.
        dropped: how many pairs of the corpus are not here, by reason.
    """

    lengths: Lengths
    indices: Indices
    dropped: dict[str, int]

    def __init__(self, folder: Path) -> None:
        """Map the file of a folder that `tokenise` wrote."""
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        table = datasets.Dataset.from_file(str(folder / "tokens.arrow")).data
        if len(table) != summary["kept"]:
            raise ValueError(f"{folder} is truncated")
        self.dropped = summary["dropped"]
        self.indices = table.column("index").to_numpy()
        # Arrow keeps a file in chunks; `flat[chunk][starts[row] : starts[row] + length]` are the tokens of a row.
        columns = [table.column(side).chunks for side in _SIDES]
        self._chunk_starts = np.cumsum([0, *(len(chunk) for chunk in columns[0])])
        self._flat = [[chunk.values.to_numpy() for chunk in chunks] for chunks in columns]
        offsets = [[chunk.offsets.to_numpy() for chunk in chunks] for chunks in columns]
        self._starts = [np.concatenate([part[:-1] for part in parts]) for parts in offsets]
        self.lengths = np.stack([np.concatenate([np.diff(part) for part in parts]) for parts in offsets], axis=1)

    def __len__(self) -> int:
        return len(self.indices)

    def padded(self, side: int, rows: Indices) -> NDArray[np.int64]:
        """[rows, steps] ids of side 0 or 1, filled up with `<pad>`."""
        lengths = self.lengths[rows, side]
        chunks = np.searchsorted(self._chunk_starts, rows, side="right") - 1
        places = zip(chunks.tolist(), self._starts[side][rows].tolist(), lengths.tolist(), strict=True)
        ids = np.full((len(rows), lengths.max(initial=0)), PAD_ID, np.int64)
        # A slice per row is quicker than one gather of all of them: rows lie together in the file.
        for row, (chunk, start, length) in zip(ids, places, strict=True):
            row[:length] = self._flat[side][chunk][start : start + length]
        return ids


def tokenise(
    text: ParallelText,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    cache: Path,
    limits: Limits | None = None,
    workers: int | None = None,
) -> Tokens:
    """Tokenise a corpus, or open what an earlier call with the same text, vocabularies and limits wrote.

    Args:
        text: the corpus.
        source_vocabulary: of its source side.
        target_vocabulary: of its target side.
        cache: a folder for the results of this function.
        limits: drop blank pairs and pairs beyond these; `None`: drop nothing.
        workers: threads that tokenise; `None`: one per core.

    Raises:
        CorpusError: at a fault in the text, or if no pair is left.
    """
    vocabularies = source_vocabulary, target_vocabulary
    key = [text.fingerprint, *(vocabulary.fingerprint for vocabulary in vocabularies), limits and asdict(limits)]
    return keep_tokens(cache_folder(cache, key), lambda part: _write(part, text, vocabularies, limits, workers))


def cache_folder(cache: Path, key: Sequence[Any]) -> Path:
    """Where the tokens are kept that a key names."""
    return Path(cache) / hashlib.sha256(json.dumps([_FORMAT, *key]).encode()).hexdigest()[:32]


def keep_tokens(folder: Path, write: Callable[[Path], None]) -> Tokens:
    """The tokens of a folder; where they are not there or not whole, they are written first.

    Args:
        folder: appears when it is whole, or not at all.
        write: fills a folder of another name.

    Raises:
        CorpusError: if the folder cannot be written, or from `write`.
    """
    try:
        return Tokens(folder)
    except (OSError, ValueError, KeyError):  # Missing, truncated, or written by something else.
        shutil.rmtree(folder, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        write(part)
        # Another process may have been quicker; a folder is never there before it is whole.
        if not folder.exists():
            part.rename(folder)
    except OSError as error:
        raise CorpusError(
            f"{folder.parent}: cannot keep tokens ({error.strerror or error}); choose another cache"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Tokens(folder)


def _write(
    part: Path, text: ParallelText, vocabularies: Sequence[Vocabulary], limits: Limits | None, workers: int | None
) -> None:
    dropped: Counter[str] = Counter()

    def encoded() -> Iterator[Block]:
        for start, block in numbered_blocks(_with_progress(text)):
            sides = [
                vocabulary.encode(side, threads=workers)
                for vocabulary, side in zip(vocabularies, zip(*block, strict=True), strict=True)
            ]
            is_kept = _kept(sides, limits, dropped)
            yield start + np.flatnonzero(is_kept), [list(compress(side, is_kept)) for side in sides]

    if not write_blocks(part, encoded(), dropped):
        reasons = ", ".join(f"{count} {reason}" for reason, count in (+dropped).items())
        raise CorpusError(f"{text.name}: no pair is left ({reasons}); check the text or raise the limits")


def write_blocks(part: Path, blocks: Iterable[Block], dropped: Counter[str]) -> int:
    """Write what `Tokens` reads; how many pairs it is. `dropped` is looked at when the blocks are through."""
    kept = 0
    with ArrowWriter(path=str(part / "tokens.arrow"), schema=_SCHEMA) as writer:
        for indices, sides in blocks:
            columns = [*map(_column, sides), pyarrow.array(indices)]
            writer.write_table(pyarrow.table(columns, schema=_SCHEMA), writer_batch_size=_BLOCK)
            kept += len(indices)
        writer.finalize()
    summary = {"kept": kept, "dropped": dict(+dropped)}
    (part / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return kept


def _kept(sides: Sequence[list[list[int]]], limits: Limits | None, dropped: Counter[str]) -> NDArray[np.bool_]:
    """[pairs] which pairs are of use; counts the others by the first reason that holds."""
    lengths = np.array([[len(row) for row in side] for side in sides])
    if limits is None:
        return np.ones(lengths.shape[1], bool)
    shorter, longer = lengths.min(axis=0), lengths.max(axis=0)
    reasons = {"blank": shorter == 0}
    if limits.max_length is not None:
        reasons[f"longer than {limits.max_length} tokens"] = longer > limits.max_length
    if limits.max_ratio is not None:
        reasons[f"beyond a ratio of {limits.max_ratio:g}"] = longer > limits.max_ratio * shorter
    is_kept = np.ones(lengths.shape[1], bool)
    for reason, holds in reasons.items():
        dropped.update({reason: int((is_kept & holds).sum())})
        is_kept &= ~holds
    return is_kept


def _column(side: list[list[int]]) -> Any:
    rows = [[*ids, EOS_ID] for ids in side]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    tokens = np.fromiter(chain.from_iterable(rows), np.int32, count=offsets[-1])
    return pyarrow.ListArray.from_arrays(offsets, tokens)


def numbered_blocks(pairs: Iterable[Pair]) -> Iterator[tuple[int, list[Pair]]]:
    """The pairs in blocks, each with the number of its first pair."""
    pairs = iter(pairs)
    start = 0
    while block := list(islice(pairs, _BLOCK)):
        yield start, block
        start += len(block)


def _with_progress(text: ParallelText) -> Iterable[Pair]:
    """Shows how far a reader of the text has come, where standard error is a terminal."""
    if not sys.stderr.isatty():
        return text
    return track(text, f"Tokenising {text.name}", total=len(text), console=Console(stderr=True), transient=True)
