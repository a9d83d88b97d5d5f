"""`seq2seq average`: several models of one training into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.errors import ConfigError


def average(
    models: Annotated[list[Path], typer.Argument(help="Model folders of one configuration.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.", show_default=False)],
) -> None:
    """Average the weights of several models, such as the last ones of a training, into a new model folder."""
    if any(out.exists() and model.exists() and out.samefile(model) for model in models):
        raise ConfigError(f"--out must be another folder than what is averaged, got {out}; choose another")
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
    print(f"the mean of {len(models)} models is in {out}")
