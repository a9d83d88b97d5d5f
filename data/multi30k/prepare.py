"""Multi30k, task 1: image captions in English, German, French and Czech, as raw text (Elliott et al. 2016).

Downloads the files into this folder, or takes them from a folder you have (--from). A file that is already there and
whole is kept, so an interrupted run goes on where it stopped.
"""

import argparse
import gzip
import hashlib
import os
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from seq2seq.errors import CorpusError, one_line_errors

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
LANGUAGES = ("de", "en", "fr", "cs")
LINES = {"train": 29_000, "val": 1_014, "test_2016_flickr": 1_000}
# French and Czech are checked by their number of lines: we hold no checksum that we have verified.
SHA256 = {
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
}


def fault(name: str, content: bytes) -> str | None:
    """What is wrong with the content of file `name`, or nothing."""
    digest = hashlib.sha256(content).hexdigest()
    if name in SHA256:
        return None if digest == SHA256[name] else f"its sha256 must be {SHA256[name]}, got {digest}"
    try:
        lines, expected = gzip.decompress(content).count(b"\n"), LINES[name.split(".")[0]]
    except (OSError, EOFError, zlib.error) as error:
        return f"it must be a gzip file ({error})"
    return None if lines == expected else f"it must have {expected} lines, got {lines}"


def read(name: str, folder: Path | None) -> bytes:
    """The content of file `name`, from `folder` or else from the network."""
    if folder:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise CorpusError(f"{folder / name} must be one of the data set's files: {error.strerror}") from None
    url = f"{URL}/{name}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise CorpusError(
            f"cannot download {url} ({reason}); without a network, fetch the .gz files of that folder on another "
            f"machine and run: python data/multi30k/prepare.py --from FOLDER"
        ) from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", type=Path, dest="folder", help="take the .gz files from this folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="put them into this folder")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=["de", "en"])
    run = parser.parse_args()

    run.out.mkdir(parents=True, exist_ok=True)
    for name in (f"{split}.{language}.gz" for split in LINES for language in run.languages):
        path: Path = run.out / name
        if path.exists() and not fault(name, path.read_bytes()):
            print(f"{path}: already there")
            continue
        content = read(name, run.folder)
        if problem := fault(name, content):
            raise CorpusError(f"{name} is not the file expected: {problem}; remove any broken copy and try again")
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        os.replace(partial, path)  # so that a file with its own name is always whole
        print(f"{path}: {len(content):,} bytes")


if __name__ == "__main__":
    with one_line_errors():
        main()
