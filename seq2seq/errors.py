"""The errors a user can cause, as a tree.

    Seq2SeqError
    ├── ConfigError      a configuration or an option that cannot be
    ├── CorpusError      parallel text that cannot be used; names file and line
    ├── VocabularyError  a SentencePiece model that cannot be trained or read
    ├── PackageError     a model folder that is missing, truncated or foreign
    └── TrainingError    a training that cannot start or go on

Each message gives the rule, the value met and the remedy in one line; the command line and the recipes print that
line on standard error and exit with code 2.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Seq2SeqError(Exception):
    """A mistake the user can mend."""


class ConfigError(Seq2SeqError):
    """A configuration or an option that cannot be."""


class CorpusError(Seq2SeqError):
    """Parallel text that cannot be used; the message names file and line."""


class VocabularyError(Seq2SeqError):
    """A SentencePiece model that cannot be trained or read."""


class PackageError(Seq2SeqError):
    """A model folder that is missing, truncated or foreign."""


class TrainingError(Seq2SeqError):
    """A training that cannot start or go on."""


def tell(text: str) -> None:
    """A line on standard error; nowhere, if that is closed or full."""
    if sys.stderr is not None:  # print would take standard output instead, which is for what was asked for
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can cause into one line on standard error and an exit code: 2 for a mistake, 130 for Ctrl-C.

    Wrap the body of a command or recipe in it. Anything else is a bug of ours: it ends with its traceback and 1. The
    traceback is printed here, in Python's own form, because typer would draw one in boxes.
    """
    try:
        yield
    except Seq2SeqError as error:
        tell(f"error: {error}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception:
        tell(traceback.format_exc().rstrip("\n"))
        raise SystemExit(1) from None
