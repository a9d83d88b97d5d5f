"""What a model folder tells about its training: on what text, on what machine, by what command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from seq2seq.data import ParallelDataModule, Tokens


def about(trainer: Trainer) -> dict[str, Any]:
    """Facts for the training summary in `config.json` and the model card."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # fit sets it
    assert isinstance(data, ParallelDataModule)
    return {
        "data": {
            "training": text_facts(data.train.name, data.train_tokens),
            "validation": text_facts(data.validation.name, data.validation_tokens),
        },
        "machine": machine(trainer),
        "command": command(sys.argv),
    }


def text_facts(name: str, tokens: Tokens) -> dict[str, Any]:
    """Where the pairs come from, and how many are used."""
    source, target = tokens.lengths.sum(axis=0).tolist()
    return {
        # Nobody else has this machine's folders.
        "text": " | ".join(part.removeprefix(f"{Path.cwd()}{os.sep}") for part in name.split(" | ")),
        "pairs": len(tokens),
        "source tokens": source,
        "target tokens": target,
        "dropped": dict(tokens.dropped),
    }


def machine(trainer: Trainer) -> str:
    """What computes, as `2 processes, CPU (x86_64, 2 threads), torch 2.6.0`."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        kind = f"{device.type.upper()} ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"
    processes = f"{trainer.world_size} processes, " if trainer.world_size > 1 else ""
    return f"{processes}{kind}, torch {torch.__version__}"


def command(arguments: list[str]) -> str | None:
    """The line that would repeat this run; `None` if no script is running."""
    if not arguments or Path(arguments[0]).suffix != ".py":
        return None
    return shlex.join(["python", *arguments])
