"""What is known of a text without reading it again: how many pairs it has, and their fingerprint."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


class Tally:
    """Counts pairs and tells their fingerprint.

    Attributes:
        count: pairs so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def add(self, pair: tuple[str, str]) -> None:
        # No text holds NUL, so that no two corpora can give the same bytes.
        self._digest.update("\0".join((*pair, "")).encode())
        self.count += 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pairs, in hexadecimal."""
        return self._digest.hexdigest()


def write_quietly(path: Path, content: bytes) -> None:
    """Write what only makes the next start quicker: whole or not at all, and no fault if it cannot be written."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; after a crash there is the old one, the new one, or none.

    Raises:
        OSError: if that is impossible; the old file stays.
    """
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)  # On a full disk it would keep the room that it lacks.
        raise
