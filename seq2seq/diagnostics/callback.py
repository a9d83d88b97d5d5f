"""Watching gradients and gates while a model trains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seq2seq.data import Batch
from seq2seq.diagnostics.gates import gate_statistics
from seq2seq.errors import ConfigError
from seq2seq.model import Seq2Seq

Gradients = dict[str, Tensor]
"""Gradients of the parameters by their names."""


class GradientFlow(Callback):
    """Logs, every so many optimiser steps, what clipping does to the gradient and how many gates are stuck.

    - `gradient_norm_before/PART` and `gradient_norm_after/PART`: length of the gradient of each part of the model
      (encoder, bridge, decoder, ...) before and after clipping; `.../all` is that of the whole.
    - `clipping/length`: length after over length before; `clipping/cosine`: of the angle between the two. Clipping by
      norm keeps the direction (1), clipping by value turns it.
    - `clipping/share`: share of the steps since the last look that clipping changed, out of ten or so of them.
    - `gradient_not_finite`: how many parameters had a gradient with NaN or infinity; a warning names the first.
    - `gate_saturation/LAYER GATE`: share of values under 0.05 or over 0.95, over a few rows of the batch.

    Args:
        every: optimiser steps between two looks.
        rows: of the batch that the gates are looked at with.

    Raises:
        ConfigError: if one of them is below 1.

    Note:
        Works with any LightningModule whose `model` is a `Seq2Seq`, clipped by Lightning or by itself.
    """

    def __init__(self, every: int = 100, rows: int = 4) -> None:
        for name, value in (("every", every), ("rows", rows)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}; leave it out for the default")
        self.every = every
        self.rows = rows
        self.steps = 0
        self.clipped = 0
        self.before: Gradients = {}
        self.length: Tensor | None = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Before clipping: remember the length, and at a look the whole gradient."""
        self.before, self.length = {}, None
        step = trainer.global_step + 1
        if step % max(1, self.every // 10) and step % self.every:
            return  # The length of a gradient costs as much as a small optimiser.
        gradients = gradients_of(pl_module)
        self.length = total_norm(gradients)
        looks = step % self.every == 0
        self.before = {name: gradient.clone() for name, gradient in gradients.items()} if looks else {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """After the step the clipped gradient is still there."""
        if self.length is None:  # between the batches of an accumulated step
            return
        after = gradients_of(pl_module)
        # A module that makes its gradient a mean just before it clips logs the length that it then has.
        length = trainer.callback_metrics.get("gradient_norm", self.length)
        if after:  # otherwise the step was skipped, which is no clipping
            self.steps += 1
            self.clipped += int(not torch.isclose(total_norm(after), length, rtol=1e-5))
        scale, self.length = float(length / self.length) if self.length else 1.0, None
        if not self.before:
            return
        figures = {
            "gradient_not_finite": float(self.count_faults()),
            "clipping/share": self.clipped / max(1, self.steps),
        }
        if after:
            figures |= clipping({name: gradient * scale for name, gradient in self.before.items()}, after)
        figures |= self.saturation(pl_module, batch)
        for logger in trainer.loggers:
            # Straight to the loggers: through `pl_module.log` only every so many steps would be kept.
            logger.log_metrics(figures, step=trainer.global_step - 1)
        self.steps, self.clipped, self.before = 0, 0, {}

    def state_dict(self) -> dict[str, Any]:
        """What a continued training goes on counting from."""
        return {"steps": self.steps, "clipped": self.clipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.steps, self.clipped = state_dict["steps"], state_dict["clipped"]

    def count_faults(self) -> int:
        """Parameters whose gradient is not finite; the first is named."""
        faults = [name for name, gradient in self.before.items() if not gradient.isfinite().all()]
        if faults:
            warnings.warn(
                f"gradients must be finite, got NaN or infinity in {len(faults)} parameters, first in {faults[0]}; "
                "lower learning_rate or clip_norm",
                stacklevel=2,
            )
        return len(faults)

    def saturation(self, pl_module: LightningModule, batch: Batch) -> Mapping[str, float]:
        """Of every gate, over the first rows of the batch."""
        model = pl_module.model
        assert isinstance(model, Seq2Seq)
        statistics = gate_statistics(model, Batch(*(part[: self.rows] for part in batch)))
        return {f"gate_saturation/{one.layer} {one.gate}": one.saturation for one in statistics}


def gradients_of(module: LightningModule) -> Gradients:
    """By the parameters' names in the model."""
    return {
        name.removeprefix("model."): weight.grad
        for name, weight in module.named_parameters()
        if weight.grad is not None
    }


def total_norm(gradients: Gradients) -> Tensor:
    """Length of the whole gradient."""
    return torch.nn.utils.get_total_norm(list(gradients.values())) if gradients else torch.zeros(())


def clipping(before: Gradients, after: Gradients) -> dict[str, float]:
    """What clipping did, part by part and to the whole."""
    figures = {}
    for when, gradients in (("before", before), ("after", after)):
        for part in sorted({name.split(".")[0] for name in gradients}):
            own = {name: gradient for name, gradient in gradients.items() if name.split(".")[0] == part}
            figures[f"gradient_norm_{when}/{part}"] = float(total_norm(own))
        figures[f"gradient_norm_{when}/all"] = float(total_norm(gradients))
    dot = sum(float((before[name] * gradient).sum()) for name, gradient in after.items())
    lengths = figures["gradient_norm_before/all"], figures["gradient_norm_after/all"]
    figures["clipping/length"] = lengths[1] / lengths[0] if lengths[0] else 1.0
    figures["clipping/cosine"] = dot / (lengths[0] * lengths[1]) if lengths[0] * lengths[1] else 1.0
    return figures
