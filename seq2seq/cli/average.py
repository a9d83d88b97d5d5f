"""`seq2seq average`: several models of one training into one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.output import print_out
from seq2seq.errors import ConfigError


def average(
    models: Annotated[list[Path], typer.Argument(help="Model folders of one configuration.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.", show_default=False)],
) -> None:
    """Average the weights of several models, such as the last ones of a training, into a new model folder."""
    paths = [os.path.realpath(model) for model in models]
    if os.path.realpath(out) in paths:
        raise ConfigError(f"--out must be another folder than what is averaged, got {out}; choose another")
    if twice := [model for number, model in enumerate(models) if paths[number] in paths[:number]]:
        raise ConfigError(f"the mean is of different models, got {twice[0]} more than once; name each of them once")
    _check_free(out)
    from seq2seq import package

    found = package.average(models)
    package.save(
        out,
        found.model,
        found.source_vocabulary,
        found.target_vocabulary,
        languages=found.metadata.languages,
        training=found.metadata.training,
        lexicon=found.lexicon,
    )
    print_out(f"the mean of {len(models)} models is in {out}")


def _check_free(out: Path) -> None:
    """What is in a folder may be somebody's only copy."""
    try:
        there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    except OSError as error:
        raise ConfigError(
            f"--out must be a new or empty folder, got {out} ({error.strerror}); choose another"
        ) from None
    if there:
        raise ConfigError(f"--out must be a new or empty folder, got {out} with {there[0]} in it; choose another")
