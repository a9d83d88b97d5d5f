"""A model in training, as a LightningModule: loss, clipping, and validation by translating."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from seq2seq import metrics
from seq2seq.config import PAD_ID, ModelConfig, SearchConfig, TrainingConfig
from seq2seq.data import Batch
from seq2seq.errors import TrainingError
from seq2seq.metrics import Score
from seq2seq.model import Seq2Seq
from seq2seq.search import search
from seq2seq.training.loss import Losses, linear_cross_entropy
from seq2seq.training.schedules import build_optimizer, build_schedulers
from seq2seq.training.start import freeze
from seq2seq.vocabulary import Vocabulary

GREEDY = SearchConfig(beam_size=1)


class TranslationModule(LightningModule):
    """Trains a `Seq2Seq` with teacher forcing and validates it by translating greedily.

    Args:
        model: what to build.
        training: how to train it.
        source_vocabulary, target_vocabulary: the second turns validation translations into text.
        references: the validation targets as text, in the order of the data's `indices`.

    Attributes:
        averaged: names of the models whose mean the weights are, at the end of a training that averages.

    Logged, per target token (`<E>` counts as one) and in nats: `loss` and `perplexity` without label smoothing, for
    training and validation; besides `tokens_per_second` (target tokens, without padding), `learning_rate`,
    `gradient_norm` (before clipping), `validation_bleu` and `validation_exact_match` (per cent).
    """

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        references: list[str],
    ) -> None:
        super().__init__()
        self.model = Seq2Seq(model)
        freeze(self.model, training.freeze)
        self.training_config = training
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.references = references
        self.translations: dict[int, str] = {}
        self.scores: dict[str, Score] = {}
        self.clock = 0.0
        self.epoch_tokens = 0
        self.epoch_loss = torch.zeros((), dtype=torch.float64)
        self.step_tokens = 0
        self.averaged: list[str] = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learning = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = build_optimizer(learning, self.training_config)
        total = int(self.trainer.estimated_stepping_batches)
        schedulers: list[Any] = build_schedulers(optimizer, self.training_config, total)
        return [optimizer], schedulers

    def losses(self, batch: Batch, smoothing: float) -> tuple[Losses, int]:
        """Summed losses of a batch, and how many target tokens it holds."""
        features = self.model.features(batch.source, batch.source_lengths, batch.target)
        is_token = batch.target != PAD_ID
        output = self.model.output
        squeezed = self.model.squeeze(features[is_token])
        losses = linear_cross_entropy(squeezed, output.weight, output.bias, batch.target[is_token], smoothing)
        return losses, len(squeezed)

    def on_train_epoch_start(self) -> None:
        self.epoch_tokens = 0
        self.epoch_loss = torch.zeros((), dtype=torch.float64)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.clock = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses, tokens = self.losses(batch, self.training_config.label_smoothing)
        self.log("loss", losses.plain.detach() / tokens, prog_bar=True, batch_size=tokens)
        self.epoch_tokens += tokens
        self.epoch_loss += losses.plain.detach().cpu()
        self.step_tokens += tokens
        # Lightning divides by the batches of a step; how many tokens they hold is known when the last one has come.
        return losses.smoothed * self.trainer.accumulate_grad_batches

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        tokens = int(batch.target_lengths.sum())
        rate = tokens / (time.perf_counter() - self.clock)
        (optimizer,) = self.trainer.optimizers
        self.log("tokens_per_second", rate, prog_bar=True, batch_size=tokens)
        self.log("learning_rate", optimizer.param_groups[0]["lr"], prog_bar=True, batch_size=tokens)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Make the gradient that of the mean over the step's tokens; clip it; log its length before clipping."""
        config = self.training_config
        weights = [weight for weight in self.parameters() if weight.grad is not None]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self.average_over_tokens(gradients)
        norm = get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"a gradient must be finite, got a norm of {norm.item()} at step {self.global_step}; "
                "lower learning_rate, or set clip_norm"
            )
        self.log("gradient_norm", norm, prog_bar=True, batch_size=1)
        if config.clip_norm is not None:
            clip_grads_with_norm_(weights, config.clip_norm, norm)
        if config.clip_value is not None:
            clip_grad_value_(weights, config.clip_value)

    def average_over_tokens(self, gradients: list[Tensor]) -> None:
        """Turn gradients of summed losses into those of the mean over all target tokens of the optimiser step.

        The tokens of all its batches and all processes count alike, so that neither accumulation nor the number of
        processes changes what is optimised. (The processes' gradients come averaged over the processes.)
        """
        tokens = torch.tensor(float(self.step_tokens), device=self.device, dtype=torch.float64)
        total = self.trainer.strategy.reduce(tokens, reduce_op="sum")
        self.step_tokens = 0
        share = self.trainer.world_size / float(total)
        for gradient in gradients:
            gradient.mul_(share)

    def on_validation_epoch_start(self) -> None:
        self.translations = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        losses, tokens = self.losses(batch, smoothing=0.0)
        self.log("validation_loss", losses.plain / tokens, batch_size=tokens)
        state = self.model.start(self.model.encode(batch.source, batch.source_lengths))
        found = search(self.model.step, state, batch.source_lengths - 1, GREEDY)
        texts = self.target_vocabulary.decode([hypotheses[0].tokens for hypotheses in found])
        self.translations.update(zip(batch.indices.tolist(), texts, strict=True))

    def on_validation_epoch_end(self) -> None:
        order = sorted(self.translations)
        hypotheses = [self.translations[index] for index in order]
        references = [[self.references[index] for index in order]]
        self.scores = {
            "bleu": metrics.bleu(hypotheses, references),
            "exact_match": metrics.exact_match(hypotheses, references),
        }
        for name, score in self.scores.items():
            self.log(f"validation_{name}", score.value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        torch.set_rng_state(checkpoint["random_state"])
