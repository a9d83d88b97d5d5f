"""What a recipe ends with: the test set translated and scored, samples shown, the next commands named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from torch import distributed

from seq2seq import package
from seq2seq.config import SearchConfig
from seq2seq.corpus.watching import waited
from seq2seq.errors import PackageError
from seq2seq.package import CARD, WEIGHTS, Metadata
from seq2seq.translator.translator import Translator

if TYPE_CHECKING:
    from seq2seq.metrics import Judge

METRICS = "metrics.json"
TEST_SET = "test"
TEST_HEADING = "## Test set"
SMOKE_SENTENCES = 20


def report(
    folder: str | os.PathLike[str],
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    search: SearchConfig,
    metrics: Sequence[str | Judge] = ("bleu",),
    samples: int = 5,
    commands: Sequence[str] = (),
    device: str = "auto",
    smoke: bool = False,
) -> None:
    """Translate a test set; write `metrics.json` and the model card; print scores, samples and commands.

    The folder `test` gets the test set and its translations line by line, for other systems and comparisons; a trial
    leaves one that is there as it is.
    Of several processes that have trained together the first one does it.

    Args:
        folder: the model folder.
        sources: the test set.
        references: one or more translations of all of it.
        search: how to translate.
        metrics: names out of `seq2seq.metrics.METRICS`, or judges, which have options too; one of a name.
        samples: how many translations to print, evenly spread over the test set.
        commands: what the user may type next.
        device: as of `Translator.load`.
        smoke: a few sentences only, to see that everything works.

    Raises:
        PackageError: if the folder is no model folder, or cannot be written; the scores are printed before.
        ConfigError: if the search does not go with the model, or there is no such device or metric.
        CorpusError: if the references are not as many as the sources.
    """
    if not _is_first_process():
        return
    # sacrebleu is needed here alone, and translating should not wait for it.
    from seq2seq.metrics import Judge, check_lines, score

    folder = Path(folder)
    judges = [metric if isinstance(metric, Judge) else Judge(metric) for metric in metrics]
    sources, *references = ([line.replace("\n", " ") for line in lines] for lines in (sources, *references))
    if smoke:
        sources, references = sources[:SMOKE_SENTENCES], [lines[:SMOKE_SENTENCES] for lines in references]
    check_lines(sources, references)
    translator = Translator.load(folder, device)
    started = time.perf_counter()
    with waited(f"Translating {len(sources):,} test sentences"):
        hypotheses = translator.translate(sources, search)
    seconds = time.perf_counter() - started
    scores = {judge.metric: score(judge, hypotheses, references) for judge in judges}
    content = {
        "scores": {metric: {**asdict(result), "text": str(result)} for metric, result in scores.items()},
        "sentences": len(sources),
        "test_set": checksum(sources, references),
        "seconds": round(seconds, 2),
        "search": search.model_dump(),
        "weights": None if smoke else _weights_checksum(translator.package.metadata),
    }
    lines = [str(result) for result in scores.values()]
    print(f"\n{len(sources):,} test sentences in {seconds:.1f} s ({_told(search)})")
    print("\n".join(lines))
    if not smoke or not (folder / TEST_SET).exists():
        _write_lines(folder / TEST_SET, sources, references, hypotheses)
    _write(folder / METRICS, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    _add_to_card(folder / CARD, lines, f"{len(sources):,} sentences ({content['test_set']}), {_told(search)}")
    shown = min(samples, len(sources))
    for number in (part * len(sources) // shown for part in range(shown)):
        _show_sample(sources[number], hypotheses[number], [lines_of_one[number] for lines_of_one in references])
    print(f"\nThe model is in {folder}. Next:" if commands else f"\nThe model is in {folder}.")
    for command in commands:
        print(f"  {command}")


def is_reported(folder: str | os.PathLike[str], search: SearchConfig) -> bool:
    """Whether `metrics.json` tells of this search with the very weights that lie in the folder, on the whole test set.

    Args:
        folder: the model folder.
        search: how `report` would translate.
    """
    try:
        told = json.loads((Path(folder) / METRICS).read_text(encoding="utf-8"))
        weights, searched = told["weights"], told["search"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if searched != search.model_dump(mode="json"):
        return False
    return bool(weights == _weights_checksum(package.load(folder).metadata))


def checksum(sources: Sequence[str], references: Sequence[Sequence[str]]) -> str:
    """What tells whether two scores belong to the same test set: as `cat SOURCES REFERENCES | sha256sum` does."""
    lines = chain(sources, *references)
    return "sha256:" + hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _told(search: SearchConfig) -> str:
    """Beam, length penalty and what else is not as usual: `beam_size=5, length_penalty=average, alpha=0.6`."""
    beam = {"beam_size"} if search.beam_size == 1 else {"beam_size", "length_penalty", "alpha"}
    told = search.model_dump(include=set() if search.samples else beam) | search.model_dump(exclude_defaults=True)
    return ", ".join(f"{field}={value}" for field, value in told.items())


def _weights_checksum(metadata: Metadata) -> str:
    return f"sha256:{metadata.files[WEIGHTS].sha256}"


def _is_first_process() -> bool:
    """By torch where the processes still know each other, else by what started them: torchrun, Lightning or SLURM."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    return all(int(os.environ.get(name, 0)) == 0 for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _show_sample(source: str, translation: str, references: Sequence[str]) -> None:
    print(f"\n  source       {source}\n  translation  {translation}")
    for reference in references:
        print(f"  reference    {reference}")


def _add_to_card(card: Path, scores: Sequence[str], test_set: str) -> None:
    """Tell the scores in the model card, in place of older ones or at its end; its other sections stay."""
    try:
        content = card.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise _cannot_be_written(card, error) from None
    lines = [TEST_HEADING, "", f"{test_set}:", "", *(f"- {line}" for line in scores), ""]
    section = "\n".join(lines).encode()
    own = rb"^%b[ \t\r]*$.*?(?=^#{1,2} |\Z)" % TEST_HEADING.encode()
    if older := re.search(own, content, re.MULTILINE | re.DOTALL):
        before, after = content[: older.start()], content[older.end() :]
        _write(card, before + section + (b"\n" + after if after else b""))
    else:
        _write(card, content.rstrip() + b"\n\n" + section if content.strip() else section)


def _write_lines(
    folder: Path, sources: Sequence[str], references: Sequence[Sequence[str]], translations: Sequence[str]
) -> None:
    """A file for each of them: `source.txt`, `reference.txt` (`reference2.txt`, ...), `translation.txt`."""
    named = {_reference_name(number): lines for number, lines in enumerate(references, start=1)}
    for name, lines in {"source.txt": sources, **named, "translation.txt": translations}.items():
        _write(folder / name, "".join(f"{line}\n" for line in lines).encode())
    # An older test set may have had more references. The last one goes first: a crash leaves no gap before others.
    rest = (folder / _reference_name(number) for number in count(len(references) + 1))
    for old in reversed(list(takewhile(Path.is_file, rest))):
        old.unlink()


def _reference_name(number: int) -> str:
    return f"reference{number if number > 1 else ''}.txt"


def _write(path: Path, content: bytes) -> None:
    """After a crash there is the old file or the new one.

    Raises:
        PackageError: if it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise _cannot_be_written(path, error) from None


def _cannot_be_written(path: Path, error: OSError) -> PackageError:
    return PackageError(
        f"{path}: cannot be written ({error.strerror}); make room for it, or remove what is in its place"
    )
