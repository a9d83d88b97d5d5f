"""Whether a folder holds a training to go on with, and whether it is the same one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.data import ParallelDataModule
from seq2seq.errors import PackageError, TrainingError
from seq2seq.package import CARD, CONFIG, LEXICON, SOURCE, TARGET, WEIGHTS, Metadata
from seq2seq.training.averaging import MODELS
from seq2seq.training.checkpoints import OURS, Checkpoints, stopped_early
from seq2seq.training.metrics_file import MetricsFile
from seq2seq.training.processes import is_first_process, say

_CHANGE_NOTHING = {"save_every_steps", "save_every_minutes"}
"""Settings that leave the weights as they are."""

_IDLE_IN_GREEDY = {"length_penalty", "alpha", "word_reward", "coverage_penalty"}
"""Fields of a search that change no translation with a beam of 1, and so no choice by validation."""

REPLACED = (CONFIG, CARD, WEIGHTS, SOURCE, TARGET, LEXICON, "metrics.json", "curves.png", "test")
"""What a training and its report write into the folder, beside folders of their own."""

WANDB_ID = "wandb-id"
"""The file in the folder `log` that names a run of Weights & Biases."""

LOGGED = ("metrics.csv", "hparams.yaml", "events.out.tfevents.*", WANDB_ID, "wandb/*run-*")
"""What they write into the folder `log`."""

CONFIGS: dict[str, type[BaseModel]] = {"model": ModelConfig, "training": TrainingConfig, "validation": SearchConfig}
"""Which part of the settings each configuration is."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """A saved state that a training can go on from.

    Attributes:
        path: the file.
        step: optimiser steps behind it.
        finished: there is nothing to go on with.
        log_rows: rows of `metrics.csv` at that time.
        batch_tokens: what `batch_tokens="auto"` had come to; `None`: it was not asked for.
    """

    path: Path
    step: int
    finished: bool
    log_rows: int
    batch_tokens: int | None


def comparable(
    model: ModelConfig,
    training: TrainingConfig,
    data: ParallelDataModule,
    search: SearchConfig,
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the weights of a training depend on."""
    is_greedy = search.beam_size == 1 and not search.samples
    return {
        "model": model.model_dump(mode="json"),
        "training": training.model_dump(mode="json", exclude=_CHANGE_NOTHING),
        "data": data.fingerprint(),
        "validation": search.model_dump(mode="json", exclude=_IDLE_IN_GREEDY if is_greedy else None),
        "run": dict(run),
    }


def look_for_state(out: Path, checkpoints: Checkpoints, settings: Mapping[str, Any]) -> SavedState | None:
    """The state to go on from, if there is one.

    Raises:
        TrainingError: if the training there has other settings, or none of its states can be used.
    """
    newest = checkpoints.newest()
    if newest is None:
        return None
    path, content, faults = newest
    for fault in faults:
        say(f"{fault}; going on from the one before")
    ours = content[OURS]
    before = completed(ours["settings"], settings)
    old, new = before["training"], settings["training"]
    if is_longer(old, new):
        before["training"] = old | {"max_epochs": new["max_epochs"]}
    if differing := differences(before, settings):
        state = "a finished" if checkpoints.finished else "an unfinished"
        raise TrainingError(
            f"{out} holds {state} training with other settings ({'; '.join(differing)}); "
            "give it those, --restart to start over, or another --out"
        )
    # What stopped early would not have used more epochs.
    finished = checkpoints.finished and (not is_longer(old, new) or stopped_early(content))
    if not finished:
        say(f"going on from step {content['global_step']} in {out}; --restart starts over")
    return SavedState(path, content["global_step"], finished, ours["log_rows"], ours.get("batch_tokens"))


def is_longer(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a training may go on for more epochs than it had: a schedule that falls towards the last one would have
    been another from the first step, and a mean of models may have taken the place of the best one."""
    ends = old["schedule"] == "cosine" or old["average_models"] is not None
    return bool(not ends and new["max_epochs"] > old["max_epochs"])


def check_folder(out: Path, checkpoints: Checkpoints, restart: bool, smoke: bool) -> None:
    """Refuse a folder where a training would replace what no training, or a finished one, has made, or a trial what any
    training has made.

    Raises:
        TrainingError: with what is there.
    """
    if not is_first_process():
        return
    try:
        out.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise TrainingError(
            f"--out must be a folder that can be written, got {out} ({error.strerror}); choose another"
        ) from None
    whole = out.absolute()
    place = next(path for path in (whole, *whole.parents) if os.path.exists(path))
    if not place.is_dir():
        raise TrainingError(f"--out must be a folder, got {out}, and {place} is a file; choose another")
    if smoke and checkpoints.paths():
        raise TrainingError(
            f"{out} holds a training, in whose place --smoke would put a trial's model; leave it out, "
            "or give another --out"
        )
    there = [name for name in REPLACED if os.path.exists(out / name)]
    if not there or checkpoints.paths():
        return
    try:
        about = Metadata.from_json((out / CONFIG).read_bytes(), str(out)).training
    except (OSError, PackageError):
        raise TrainingError(
            f"--out must be a new folder or that of a training, got {out}, whose {there[0]} is of something else; "
            "choose another"
        ) from None
    # A trial's model, or that of a training whose states are gone, tells of no total.
    if (smoke or not restart) and ("total" in about or "settings" not in about):
        way = "" if smoke else "--restart to train another in its place, or "
        raise TrainingError(f"{out} holds a model and no state of its training; {way}give another --out")


def left_by_another(out: Path, checkpoints: Checkpoints, start: Path | None) -> list[Path]:
    """The states, the log and the kept models of an older training, but for the one to start from."""
    logged = [path for pattern in LOGGED for path in (out / "log").glob(pattern)]
    models = (out / MODELS).glob("step_*")
    kept = [model for model in models if start is None or model.resolve() != start.resolve()]
    return [*checkpoints.files(), *logged, *kept]


class Begin(Callback):
    """Takes the place of an older training as soon as the data stand; before that a fault in them loses nothing.

    Args:
        older: what to remove.
        metrics_file: `metrics.csv`, whose rows after the first `rows` are taken back.
        rows: as many as the state that is gone on from knows of.
    """

    def __init__(self, older: Sequence[Path], metrics_file: MetricsFile, rows: int) -> None:
        self.older = older
        self.metrics_file = metrics_file
        self.rows = rows

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != TrainerFn.FITTING:
            return
        if trainer.is_global_zero:
            for path in self.older:
                remove(path)
        self.metrics_file.truncate(self.rows)


def remove(path: Path) -> None:
    """Remove a file or folder, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def completed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an older version saved, with the fields that it did not have: their defaults are what it did. Those
    that it told and that change nothing are left out."""
    filled = dict(old)
    for part, kind in CONFIGS.items():
        missing = [name for name in new[part] if name not in old[part]]
        counted = {name: value for name, value in old[part].items() if name in new[part] or name not in _IDLE_IN_GREEDY}
        filled[part] = counted | {name: to_jsonable_python(kind.model_fields[name].default) for name in missing}
    return filled


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two settings, as `training.learning_rate: 0.001, now 0.002`."""
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = (settings.get(key, "not there") for settings in (old, new))
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before}, now {after}")
    return found
