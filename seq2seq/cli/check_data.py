"""`seq2seq check-data`: what is wrong with a corpus, before a training finds out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.cli.flags import Columns, Keys, Test, Texts, Validation
from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from seq2seq.vocabulary import Vocabulary


def check_data(
    texts: Texts,
    validation: Validation = [],  # noqa: B006  # typer hands over a copy
    test: Test = [],  # noqa: B006  # the same
    model: Annotated[Path | None, typer.Option(help="A model folder, whose vocabularies to check against.")] = None,
    vocabulary: Annotated[
        list[Path], typer.Option(help="A SentencePiece model of this library; twice for source and target.")
    ] = [],  # noqa: B006  # the same
    columns: Columns = (1, 2),
    keys: Keys = ("source", "target"),
    examples: Annotated[int, typer.Option(min=0, help="How many of each finding to show.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the histograms into this .png, .svg or .pdf.")] = None,
) -> None:
    """Look for what makes a training fail or its scores lie; exit code 1 if there is such a fault."""
    from seq2seq.cli.output import Output
    from seq2seq.corpus import check_fields, read_places
    from seq2seq.corpus.check import check_data as check
    from seq2seq.corpus.check import draw_report
    from seq2seq.pictures import check_picture

    if model is not None and vocabulary:
        raise ConfigError("give --model or --vocabulary, got both; a model folder holds its vocabularies")
    if picture is not None:
        check_picture(picture)
    check_fields([texts, validation, test], columns, keys)
    held_out = {
        name: read_places(places, columns, keys)
        for name, places in (("validation", validation), ("test", test))
        if places
    }
    vocabularies = load_vocabularies(model, vocabulary)
    report = check(read_places(texts, columns, keys), held_out, vocabularies, examples)
    shown = json.dumps(report.to_dict(), ensure_ascii=False) if as_json else str(report)
    Output().write(f"{shown}\n")
    if picture is not None:
        draw_report(report, picture)
    if not report.is_sound:
        raise SystemExit(1)


def load_vocabularies(model: Path | None, paths: list[Path]) -> tuple[Vocabulary, Vocabulary] | None:
    """Those of a model folder, or of one or two files."""
    if model is not None:
        from seq2seq import package

        found = package.load(model)
        return found.source_vocabulary, found.target_vocabulary
    if not paths:
        return None
    if len(paths) > 2:
        raise ConfigError(f"--vocabulary is given once or twice, got {len(paths)}; name source and target alone")
    from seq2seq.vocabulary import Vocabulary

    vocabularies = [Vocabulary.load(path) for path in paths]
    return vocabularies[0], vocabularies[-1]
