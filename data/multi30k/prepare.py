"""Multi30k, task 1: image captions in English, German, French and Czech (Elliott et al. 2016).

Downloads the raw text into this folder, or takes it from a folder you have (--from); with --tokenised, the data set's
lower-cased, normalised and tokenised files too. A file that is already there and whole is kept, so an interrupted run
goes on where it stopped.
"""

import argparse
import gzip
import hashlib
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from seq2seq.cli.output import printing
from seq2seq.corpus.facts import write_whole
from seq2seq.errors import CorpusError, one_line_errors

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1"
TOKENISED = ".lc.norm.tok."
LANGUAGES = ("de", "en", "fr", "cs")
LINES = {"train": 29_000, "val": 1_014, "test_2016_flickr": 1_000}
# French and Czech are checked by their number of lines: we hold no checksum that we have verified. The tokenised files
# lie there as plain text, whose checksum it is; we pack them.
SHA256 = {
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "train.lc.norm.tok.de.gz": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "train.lc.norm.tok.en.gz": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "val.lc.norm.tok.de.gz": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.lc.norm.tok.en.gz": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "test_2016_flickr.lc.norm.tok.de.gz": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.lc.norm.tok.en.gz": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
}


def fault(name: str, content: bytes) -> str | None:
    """What is wrong with the content of file `name`, or nothing."""
    try:
        text = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        return f"it must be a gzip file ({error})"
    digest = hashlib.sha256(text if TOKENISED in name else content).hexdigest()
    if name in SHA256:
        return None if digest == SHA256[name] else f"its sha256 must be {SHA256[name]}, got {digest}"
    lines, expected = text.count(b"\n"), LINES[name.split(".")[0]]
    return None if lines == expected else f"it must have {expected} lines, got {lines}"


def read(name: str, folder: Path | None) -> bytes:
    """The content of file `name`, from `folder` or else from the network."""
    if folder:
        plain = folder / name.removesuffix(".gz")  # as the tokenised ones lie on the server
        try:
            if TOKENISED in name and plain.exists() and not (folder / name).exists():
                return gzip.compress(plain.read_bytes(), mtime=0)
            return (folder / name).read_bytes()
        except OSError as error:
            raise CorpusError(f"{folder / name} must be one of the data set's files: {error.strerror}") from None
    url = f"{URL}/tok/{name.removesuffix('.gz')}" if TOKENISED in name else f"{URL}/raw/{name}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            content: bytes = answer.read()
            return gzip.compress(content, mtime=0) if TOKENISED in name else content
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise CorpusError(
            f"cannot download {url} ({reason}); without a network, fetch the files of that folder on another machine "
            f"and run the same command with --from FOLDER"
        ) from None


def bring(name: str, path: Path, folder: Path | None) -> None:
    """Put file `name` at `path`, unless it is there and whole."""
    if path.exists() and not fault(name, path.read_bytes()):
        print(f"{path}: already there")
        return
    content = read(name, folder)
    if problem := fault(name, content):
        raise CorpusError(f"{name} is not the file expected: {problem}; remove any broken copy and try again")
    write_whole(path, content)
    print(f"{path}: {len(content):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", type=Path, dest="folder", help="take the files from this folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="put them into this folder")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=["de", "en"])
    parser.add_argument("--tokenised", action="store_true", help="the lower-cased, tokenised files too")
    run = parser.parse_args()

    kinds = (".", TOKENISED) if run.tokenised else (".",)
    try:
        run.out.mkdir(parents=True, exist_ok=True)
        for name in (f"{split}{kind}{language}.gz" for kind in kinds for split in LINES for language in run.languages):
            bring(name, run.out / name, run.folder)
    except OSError as error:
        raise CorpusError(
            f"{run.out} must be a folder that can be written, got {error.strerror}; say --out FOLDER"
        ) from None


if __name__ == "__main__":
    with one_line_errors(), printing():
        main()
