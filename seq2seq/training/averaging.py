"""Means of weights: a moving one while training, and one of the best or last models at its end."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from seq2seq import package
from seq2seq.config import TrainingConfig
from seq2seq.training.callbacks import KeepBest, is_finite, quality
from seq2seq.training.module import TranslationModule
from seq2seq.training.processes import in_first_process, say

MODELS = "models"
"""The folder, in that of the run, of those that are kept."""


class MovingAverage(Callback):
    """An exponential moving average of the weights, which stands in for them whenever the model is validated.

        average' = d * average + (1 - d) * weights      d = min(decay, (1 + step) / (10 + step))

    During a validation the average and the weights have traded places. `KeepBest` and `KeepModels` therefore save the
    average, and must stand before this callback in the trainer's list (`build_callbacks` sees to it). Training states
    are saved outside of validations (`KeepState`) and hold the weights themselves; the average is in them too, as the
    state of this callback.

    Args:
        decay: share of the average that is kept at every optimiser step; less at first, while the average is young.

    Reference:
        Polyak & Juditsky (1992); the growing decay is that of TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.step = 0
        self.stands_in = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = parameters(pl_module)
        if not self.average:
            self.average = {name: weight.detach().clone() for name, weight in weights.items()}
            self.step = trainer.global_step
        self.average = {name: self.average[name].to(weight.device) for name, weight in weights.items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:  # A batch that is only accumulated.
            return
        self.step = trainer.global_step
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, weight in parameters(pl_module).items():
            self.average[name].lerp_(weight.detach(), 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.exchange(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stands_in:
            self.exchange(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.stands_in:
            self.exchange(pl_module)

    def exchange(self, module: LightningModule) -> None:
        """Put the average where the weights are and the weights where the average was, or back; nothing is copied."""
        for name, weight in parameters(module).items():
            weight.data, self.average[name] = self.average[name], weight.data
        self.stands_in = not self.stands_in

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.step = state_dict["average"], state_dict["step"]


class KeepModels(Callback):
    """Keeps the best or last models as model folders, `step_N` each, to be averaged when the training ends.

    Args:
        folder: where the model folders lie.
        config: how many, and which.
        keep_best: says what a validation found, and in which languages.
    """

    def __init__(self, folder: Path, config: TrainingConfig, keep_best: KeepBest) -> None:
        assert config.average_models is not None
        self.folder = folder
        self.count = config.average_models
        self.best = config.average_of == "best"
        self.keep_best = keep_best
        self.kept: dict[str, float] = {}
        """What each model's validation found, by its name; it grows with quality."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TranslationModule)
        if trainer.state.fn != TrainerFn.FITTING or not is_finite(pl_module.model):
            return
        summary = self.keep_best.summarise(trainer, pl_module)
        name = f"step_{trainer.global_step}"
        # The newest first: it wins a tie.
        found = {name: quality(summary), **{key: self.kept[key] for key in self.kept if key != name}}
        order = sorted(found, key=lambda key: -found[key]) if self.best else list(found)
        self.kept = {key: found[key] for key in found if key in order[: self.count]}
        save = partial(
            package.save,
            self.folder / name,
            pl_module.model,
            pl_module.source_vocabulary,
            pl_module.target_vocabulary,
            languages=self.keep_best.languages,
            training=summary,
        )
        if name in self.kept:
            in_first_process(trainer, save)
        if trainer.is_global_zero:
            for key in found.keys() - self.kept.keys():
                shutil.rmtree(self.folder / key, ignore_errors=True)

    def folders(self) -> list[Path]:
        """The models that are kept and still there, the newest first."""
        return [self.folder / name for name in self.kept if (self.folder / name).is_dir()]

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept = state_dict["kept"]


def validate_average(trainer: Trainer, module: TranslationModule, data: Any, models: KeepModels) -> None:
    """Validate the mean of the models that were kept; `KeepBest` writes it if it is better than the best of them."""
    folders = models.folders()
    if len(folders) < 2:
        say(f"an average needs at least 2 models, and {len(folders)} were kept")
        return
    module.model.load_state_dict(package.average(folders).model.state_dict())
    module.averaged = [folder.name for folder in folders]
    trainer.validate(module, datamodule=data, verbose=False)
    logged = trainer.callback_metrics
    say(
        f"mean of {len(folders)} models: validation loss {float(logged['validation_loss']):.3f},"
        f" BLEU {module.scores['bleu'].value:.2f}, exact match {module.scores['exact_match'].value:.1f}%"
    )


def parameters(module: LightningModule) -> dict[str, nn.Parameter]:
    """The weights of the model in training, shared ones once."""
    assert isinstance(module, TranslationModule)
    return dict(module.model.named_parameters())
