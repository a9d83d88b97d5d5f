"""What happens around the validations: a line for the reader, the best model kept, a progress bar."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.progress import BarColumn
from torch import nn

from seq2seq import package
from seq2seq.resources import give_back
from seq2seq.training.about import about
from seq2seq.training.curves import draw_curves
from seq2seq.training.module import TranslationModule
from seq2seq.training.processes import in_first_process, say
from seq2seq.training.schedules import unreached

CURVES = "curves.png"

SHOWN = {
    "loss": ("loss", ".3f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "learning_rate": ("rate", ".2g"),
    "gradient_norm": ("gradient", ".2f"),
}
"""What the bar names what is logged, and how it writes it."""

SHOWN_TRANSLATIONS = 3
"""After every validation."""

GIVE_BACK_STEPS = 50
"""Batches between two times that free memory is given back."""


class KeepBest(Callback):
    """Writes the model folder whenever validation finds a better model, so the best one is always on disk.

    Args:
        folder: the model folder.
        languages: of source and target, for the folder's metadata.
    """

    def __init__(self, folder: Path, languages: tuple[str, str]) -> None:
        self.folder = folder
        self.languages = languages
        self.best: dict[str, Any] = {}
        self.about: dict[str, Any] = {}
        self.trained_seconds = 0.0
        self.resumed_at = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What came before, as tokenising the text, is no training."""
        self.resumed_at = time.perf_counter()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log when a validation stands: how many minutes a model of this quality takes."""
        pl_module.log("minutes", self.minutes())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TranslationModule)
        summary = self.summarise(trainer, pl_module)
        if not is_finite(pl_module.model):
            if trainer.is_global_zero:
                say("the weights are no finite numbers any more: this model is not kept")
        elif not self.best or quality(summary) > quality(self.best):
            self.best = summary
            save = partial(
                package.save,
                self.folder,
                pl_module.model,
                pl_module.source_vocabulary,
                pl_module.target_vocabulary,
                languages=self.languages,
                training=summary,
                keep_lexicon=True,
            )
            in_first_process(trainer, save)

    def summarise(self, trainer: Trainer, module: TranslationModule) -> dict[str, Any]:
        """What `config.json` tells about the training; see `quality`."""
        config = module.training_config
        self.about = self.about or about(trainer)
        loss = float(trainer.callback_metrics["validation_loss"])
        return {
            # After the last epoch the trainer already counts the next.
            "epochs": trainer.current_epoch + (trainer.state.fn == TrainerFn.FITTING),
            "steps": trainer.global_step,
            "minutes": self.minutes(),
            "monitored": loss if config.monitor == "loss" else module.scores[config.monitor].value,
            "validation": {"loss": loss, **{name: str(score) for name, score in module.scores.items()}},
            "settings": config.model_dump(),
            **self.about,
            **({"averaged": module.averaged} if module.averaged else {}),
        }

    def say(self) -> None:
        """Name the model that was kept."""
        if self.best:
            monitor = self.best["settings"]["monitor"]
            value = self.best["validation"][monitor]
            score = f"validation loss {value:.4g}" if monitor == "loss" else value
            moment = f"epoch {self.best['epochs']}"
            if self.best["settings"].get("validate_every_steps"):
                moment += f", step {self.best['steps']}"
            say(f"best: {moment}, {score}, in {self.folder}")

    def minutes(self) -> float:
        """Of training and validation, of all runs that this one goes on from."""
        return round((self.trained_seconds + time.perf_counter() - self.resumed_at) / 60, 2)

    def finish(self, trainer: Trainer, metrics: Path) -> None:
        """When all is trained: tell how long it took in the model folder, and draw `curves.png` into it."""
        if not self.best:
            return
        drawn = draw_curves(metrics, self.folder / CURVES)
        found = package.load(self.folder)
        total = {"epochs": trainer.current_epoch, "steps": trainer.global_step, "minutes": self.minutes()}
        summary = {**found.metadata.training, "total": total, **({"curves": CURVES} if drawn else {})}
        package.save(
            self.folder,
            found.model,
            found.source_vocabulary,
            found.target_vocabulary,
            languages=self.languages,
            training=summary,
            keep_lexicon=True,
        )

    def state_dict(self) -> dict[str, Any]:
        seconds = self.trained_seconds + time.perf_counter() - self.resumed_at
        return {"best": self.best, "trained_seconds": seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.trained_seconds = state_dict["trained_seconds"]


def is_finite(model: nn.Module) -> bool:
    """Whether all its weights are numbers that one can compute with."""
    return all(bool(weight.isfinite().all()) for weight in model.parameters())


def quality(summary: dict[str, Any]) -> float:
    """What was monitored, turned so that more is better; what is no number is the worst."""
    monitored = float(summary["monitored"])
    if not math.isfinite(monitored):
        return -math.inf
    return -monitored if summary["settings"]["monitor"] == "loss" else monitored


class TellUnreached(Callback):
    """Says at the start what was asked for at a step that the training does not have."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TranslationModule)
        for fault in unreached(pl_module.training_config, int(trainer.estimated_stepping_batches)):
            if trainer.is_global_zero:
                say(f"warning: {fault}")


class ValidationLine(Callback):
    """After every validation one line on standard error about the steps since the last one, and a few translations."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds = 0.0
        self.goes_on = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.goes_on:
            self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": time.perf_counter() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.started, self.goes_on = time.perf_counter() - state_dict["seconds"], True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.started

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TranslationModule)
        if trainer.state.fn != TrainerFn.FITTING:
            return
        logged, scores = trainer.callback_metrics, pl_module.scores
        loss = float(logged["validation_loss"])
        say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            f" · step {trainer.global_step}"
            f" · loss {pl_module.seen_loss / max(1, pl_module.seen_tokens):.3f}"
            f" · validation loss {loss:.3f}, perplexity {math.exp(min(loss, 99)):.2f},"
            f" BLEU {scores['bleu'].value:.2f}, exact match {scores['exact_match'].value:.1f}%"
            f" · {pl_module.seen_tokens / max(self.seconds, 1e-9):,.0f} tokens/s"
            f" · {time.perf_counter() - self.started:.0f} s"
        )
        for index in sorted(pl_module.translations)[:SHOWN_TRANSLATIONS]:
            say(f"    {pl_module.translations[index]}    (reference: {pl_module.references[index]})")
        self.started = time.perf_counter()


class Unread:
    """Standard error, where it does not matter whether anybody can read it any more."""

    def __init__(self) -> None:
        self.file = sys.stderr

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class ProgressBar(RichProgressBar):
    """Lightning's rich bar on standard error: loss, tokens/s, learning rate and gradient norm as they are now."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, console_kwargs={"file": Unread()})

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        ours = {name: f"{shown.pop(key):{form}}" for key, (name, form) in SHOWN.items() if key in shown}
        return {**ours, **shown}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        columns = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = 10  # or the metrics do not fit beside it
        return columns

    def _get_train_description(self, current_epoch: int) -> str:
        # Epochs count from 1 wherever we name them; the width is that of "Validation", or the bars would jump.
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))


class GiveBack(Callback):
    """Gives free memory back to the system: batches of ever other sizes leave gaps, and a process without it grows to
    twice what it needs. It takes a thousandth of the time."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % GIVE_BACK_STEPS == 0:
            give_back()
