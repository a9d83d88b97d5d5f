"""What can be added to a model folder after training."""

from __future__ import annotations

import os
from collections.abc import Iterable
from errno import EACCES, EISDIR
from pathlib import Path

from seq2seq.errors import PackageError
from seq2seq.lexicon import FREQUENT, Lexicon
from seq2seq.package.folder import (
    CONFIG,
    LEXICON,
    StrPath,
    cannot_be_written,
    load,
    read_metadata,
    vocabulary_facts,
)
from seq2seq.package.metadata import FileFacts
from seq2seq.package.replacing import alone_in, replace_files


def add_lexicon(folder: StrPath, text: Iterable[tuple[str, str]], *, frequent: int = FREQUENT) -> Lexicon:
    """Learn a lexicon and keep it in a model folder, for `SearchConfig.shortlist`; all else there stays.

    Args:
        folder: a model folder.
        text, frequent: see `Lexicon.learn`; the text that the model was trained on.

    Raises:
        PackageError: if it is no model folder, cannot be written, or becomes another model's meanwhile.
        ConfigError, CorpusError: as of `Lexicon.learn`.
    """
    folder = Path(folder)
    found = load(folder)
    source, target, before = found.source_vocabulary, found.target_vocabulary, vocabulary_facts(found.metadata)
    del found  # the model need not be held meanwhile
    _check_writable(folder)
    lexicon = Lexicon.learn(text, source, target, frequent=frequent)
    content = lexicon.to_bytes()
    try:
        with alone_in(folder):
            # Learning took a while, in which a training may have found a better model.
            metadata = read_metadata(folder)
            if vocabulary_facts(metadata) != before:
                raise PackageError(
                    f"{folder}: got other vocabularies while a lexicon for it was learnt; learn it again"
                )
            files = {**metadata.files, LEXICON: FileFacts.of(content)}
            config = metadata.model_copy(update={"files": files}).to_bytes()
            replace_files(folder, {LEXICON: content, CONFIG: config})
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return lexicon


def _check_writable(folder: Path) -> None:
    """What would be met after the learning is told before it."""
    if (folder / LEXICON).is_dir():
        raise cannot_be_written(folder / LEXICON, IsADirectoryError(EISDIR, os.strerror(EISDIR)))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise cannot_be_written(folder, PermissionError(EACCES, os.strerror(EACCES)))
