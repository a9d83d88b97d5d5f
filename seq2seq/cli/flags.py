"""The flags that recipes share: how one run of a training is made, not what is trained; and where text is found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq import config
from seq2seq.errors import ConfigError


def check_languages(languages: tuple[str, str]) -> tuple[str, str]:
    """Refuse a flag that is taken for a language because one of the two was left out."""
    if any(language.startswith("-") for language in languages):
        raise ConfigError(
            f"--languages takes two names, source and target, got {' '.join(languages)}; give both before other flags"
        )
    return languages


Out = Annotated[Path, typer.Option(help="The run's folder: the model, its scores and what it takes to go on.")]
Data = Annotated[Path, typer.Option(help="The corpus's folder.")]
Epochs = Annotated[int | None, typer.Option(help="Readings of the training text, in place of the recipe's number.")]
Device = Annotated[str, typer.Option(help="cpu, gpu (or cuda), mps, or auto: the best that is there.")]
Devices = Annotated[int, typer.Option(help="Processes that train together, on each machine.")]
Nodes = Annotated[int, typer.Option(help="Machines that train together.")]
Precision = Annotated[
    config.Precision,
    typer.Option(help="What products are computed in: bfloat16 is faster where GPU or CPU have it, else far slower."),
]
Seed = Annotated[int, typer.Option(help="Of the first weights, of the batches' order and of dropout.")]
Restart = Annotated[bool, typer.Option("--restart", help="Start over; without it the same command goes on.")]
Wandb = Annotated[str | None, typer.Option(help="A project of Weights & Biases, for the curves.")]
Start = Annotated[
    Path | None, typer.Option("--from", help="A model folder to begin with: the same layers and vocabularies.")
]
Smoke = Annotated[bool, typer.Option("--smoke", help="Two batches of everything, to see that it works.")]

Texts = Annotated[
    list[str],
    typer.Argument(
        help="Two files line by line, a TSV, JSON lines (.jsonl, .ndjson) or a data set (hub:NAME, hub:NAME:PART or "
        "hub:NAME:CONFIGURATION:PART).",
        show_default=False,
    ),
]
Validation = Annotated[list[str], typer.Option(help="Validation pairs, likewise; twice for two files.")]
Test = Annotated[list[str], typer.Option(help="Test pairs, likewise; twice for two files.")]
Columns = Annotated[tuple[int, int], typer.Option(help="Of source and target in a TSV, counted from 1.")]
Keys = Annotated[
    tuple[str, str],
    typer.Option(help="Of source and target in JSON lines and data sets; translation.de is de inside of translation."),
]
Languages = Annotated[
    tuple[str, str], typer.Option(help="Of source and target, for the model card.", callback=check_languages)
]
