"""A model in training, as a LightningModule: loss, clipping, and validation by translating."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from seq2seq import metrics
from seq2seq.config import PAD_ID, ModelConfig, SearchConfig, TrainingConfig
from seq2seq.data import Batch
from seq2seq.metrics import Score
from seq2seq.model import Seq2Seq
from seq2seq.search import search
from seq2seq.training.guard import StepGuard, not_finite
from seq2seq.training.loss import Losses, linear_cross_entropy
from seq2seq.training.processes import gather, say
from seq2seq.training.sampling import check_sampling, parallel_features, stepwise_features, teacher_forcing_ratio
from seq2seq.training.schedules import build_optimizer, build_schedulers
from seq2seq.training.start import check_dropout, check_search, check_vocabularies, freeze
from seq2seq.training.validating import is_counted
from seq2seq.vocabulary import Vocabulary

GREEDY = SearchConfig(beam_size=1)


class TranslationModule(LightningModule):
    """Trains a `Seq2Seq` with teacher forcing and validates it by translating.

    A step learns from all target tokens of its batches alike, of however many processes and accumulated batches: the
    gradients of summed losses are added up, and divided by the number of tokens right before the step.

    Args:
        model: what to build.
        training: how to train it.
        source_vocabulary, target_vocabulary: the second turns validation translations into text.
        references: the validation targets as text, in the form that `Vocabulary.decode` gives and in the order of the
            data's `indices`.
        search: how validation translates.

    Attributes:
        averaged: names of the models whose mean the weights are, at the end of a training that averages.

    Logged, per target token (`<E>` counts as one), in nats and without label smoothing: `loss` and `validation_loss`;
    besides `tokens_per_second` (target tokens, without padding), `learning_rate`, `gradient_norm` (before clipping),
    `validation_bleu` and `validation_exact_match` (per cent).
    """

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        references: list[str],
        search: SearchConfig = GREEDY,
    ) -> None:
        super().__init__()
        self.model = Seq2Seq(model)
        freeze(self.model, training.freeze)
        check_sampling(model, training)
        check_dropout(model, training)
        check_search(model, search)
        check_vocabularies(model, source_vocabulary, target_vocabulary)
        self.training_config = training
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.references = references
        self.search_config = search
        self.judge = metrics.Judge("bleu", tokenize=training.bleu_tokenize)
        self.guard = StepGuard(training.max_skipped_steps)
        self.batch: Batch | None = None
        self.translations: dict[int, str] = {}
        self.scores: dict[str, Score] = {}
        self.clock = 0.0
        self.seen_tokens = 0
        self.seen_loss = 0.0
        self.step_sums = torch.zeros(2)
        self.validation_sums: dict[int, tuple[float, int]] = {}
        self.averaged: list[str] = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learning = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = build_optimizer(learning, self.training_config)
        total = int(self.trainer.estimated_stepping_batches)
        schedulers: list[Any] = build_schedulers(optimizer, self.training_config, total)
        return [optimizer], schedulers

    def losses(
        self, batch: Batch, label_smoothing: float, true_share: float = 1.0, r_drop: float = 0.0
    ) -> tuple[Losses, int]:
        """Summed losses of a batch, and how many target tokens it holds.

        Args:
            batch: pairs.
            label_smoothing: share of the probability that the training target spreads over the whole vocabulary.
            true_share: of the tokens that the decoder reads; it draws the others itself (scheduled sampling).
            r_drop: R-Drop's alpha. Unless it is 0, every sentence is read twice; the losses are the means over both.
        """
        features = self.features(batch.repeat(2 if r_drop else 1), true_share)
        return self.losses_of(features, batch, label_smoothing, r_drop)

    def losses_of(
        self, features: Tensor, batch: Batch, label_smoothing: float, r_drop: float = 0.0
    ) -> tuple[Losses, int]:
        """The same from what the output layer reads, `[batch * copies, steps, features]`."""
        copies = 2 if r_drop else 1
        is_token = batch.target != PAD_ID
        # The copies of a token become neighbours, and padding is left out:
        # [batch * copies, steps, f] -> [batch, steps, copies, f] -> [tokens, copies, f] -> [tokens * copies, f]
        features = features.unflatten(0, (-1, copies)).transpose(1, 2)[is_token].flatten(0, 1)
        targets = batch.target[is_token]
        output = self.model.output
        losses = linear_cross_entropy(
            self.model.output_features(features),
            output.weight,
            output.bias,
            targets.repeat_interleave(copies),
            label_smoothing,
            r_drop,
        )
        return Losses(losses.smoothed / copies, losses.plain / copies), len(targets)

    def features(self, batch: Batch, true_share: float) -> Tensor:
        """What the output layer reads after the true tokens, or after a mixture of these and some that were drawn."""
        if true_share == 1.0:
            return self.model.features(batch.source, batch.source_lengths, batch.target)
        sampled = parallel_features if self.training_config.sampled_inputs == "parallel" else stepwise_features
        return sampled(self.model, batch, true_share)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.clock = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batch = batch
        config = self.training_config
        true_share = teacher_forcing_ratio(config, self.global_step)
        drops = self.global_step >= config.dropout_start
        self.model.train(drops)
        losses, tokens = self.losses(batch, config.label_smoothing, true_share, config.r_drop if drops else 0.0)
        self.step_sums = self.step_sums.to(self.device) + torch.stack([losses.plain, losses.plain.new_tensor(tokens)])
        return losses.smoothed

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        tokens = int(batch.target_lengths.sum())
        rate = tokens * self.trainer.world_size / (time.perf_counter() - self.clock)
        self.log("tokens_per_second", rate, prog_bar=True, batch_size=tokens)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Average the gradient over the step's tokens, log its norm and clip it; or skip the step."""
        weights = [weight for weight in self.parameters() if weight.grad is not None]
        loss, tokens = self.take_step_sums()
        norm = self.average_gradient(weights, tokens)
        self.log("loss", loss, prog_bar=True, batch_size=1)
        # Here it is still the rate of this step.
        self.log("learning_rate", optimizer.param_groups[0]["lr"], prog_bar=True, batch_size=1)
        self.log("gradient_norm", norm, prog_bar=True, batch_size=1)
        if not self.guard.is_fit(loss, float(norm)):
            self.skip_step(loss)
            return
        if self.guard.is_spike(loss):
            say(f"step {self.global_step}: loss {loss:.3f} is far above the {self.guard.mean:.3f} of late")
        self.seen_tokens += tokens
        self.seen_loss += loss * tokens
        config = self.training_config
        if config.clip_norm is not None:
            clip_grads_with_norm_(weights, config.clip_norm, norm)
        if config.clip_value is not None:
            clip_grad_value_(weights, config.clip_value)

    def average_gradient(self, weights: Sequence[nn.Parameter], tokens: int) -> Tensor:
        """Make the gradient that of the mean loss per token; returns its norm."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        # backward() gave that of summed losses; DDP divided it by the processes, Lightning by the batches of a step.
        factor = self.trainer.world_size * self.trainer.accumulate_grad_batches / tokens
        for gradient in gradients:
            gradient.mul_(factor)
        return get_total_norm(gradients)

    def take_step_sums(self) -> tuple[float, int]:
        """Loss per token and target tokens of this step, of all processes and accumulated batches."""
        if self.trainer.world_size > 1:
            distributed.all_reduce(self.step_sums)
        loss, tokens = self.step_sums.tolist()
        self.step_sums = torch.zeros(2)
        return loss / tokens, int(tokens)

    def skip_step(self, loss: float) -> None:
        """Drop the gradients: an optimiser passes over parameters that have none."""
        assert self.batch is not None
        culprits = not_finite(self.named_parameters())
        self.guard.check_limit(self.global_step, loss, culprits, self.batch.indices.tolist())
        say(f"step {self.global_step} skipped: loss or gradient not finite ({self.guard.skipped} skipped so far)")
        for weight in self.parameters():
            weight.grad = None

    def on_validation_epoch_start(self) -> None:
        self.translations = {}
        self.validation_sums = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        # Read once, for the loss and the search.
        state = self.model.start(self.model.encode(batch.source, batch.source_lengths))
        losses, tokens = self.losses_of(self.model.read(batch.target, state), batch, label_smoothing=0.0)
        indices = batch.indices.tolist()
        # By the batch's first pair, so that a batch which several processes were given counts once.
        self.validation_sums[indices[0]] = (float(losses.plain), tokens)
        # Search counts source tokens without `<E>`.
        found = search(self.model.step, state, batch.source_lengths - 1, self.search_config)
        texts = self.target_vocabulary.decode([hypotheses[0].tokens for hypotheses in found])
        self.translations.update(zip(indices, texts, strict=True))

    def on_validation_epoch_end(self) -> None:
        """Score the whole set, once: batches that several processes were given to be equally busy count once."""
        for translations, sums in gather(self.trainer, (self.translations, self.validation_sums)):
            self.translations |= translations
            self.validation_sums |= sums
        order = sorted(self.translations)
        hypotheses = [self.translations[index] for index in order]
        references = [[self.references[index] for index in order]]
        self.scores = {
            "bleu": metrics.score(self.judge, hypotheses, references),
            "exact_match": metrics.exact_match(hypotheses, references),
        }
        loss, tokens = (math.fsum(part) for part in zip(*self.validation_sums.values(), strict=True))
        self.log("validation_loss", loss / tokens)
        for name, score in self.scores.items():
            self.log(f"validation_{name}", score.value)

    def on_validation_end(self) -> None:
        """After the callbacks have told of it."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        self.seen_tokens = 0
        self.seen_loss = 0.0
        for scheduler in self.plateaus() if is_counted(self.trainer, self.training_config) else ():
            scheduler.step(float(self.trainer.callback_metrics[f"validation_{self.training_config.monitor}"]))

    def plateaus(self) -> list[ReduceLROnPlateau]:
        """The schedulers that count validations, one or none."""
        found = self.lr_schedulers() or []
        every = found if isinstance(found, list) else [found]
        return [one for one in every if isinstance(one, ReduceLROnPlateau)]

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Lightning would move the plateau at the end of an epoch; `on_validation_end` does."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["guard"] = self.guard.state_dict()
        checkpoint["epoch_sums"] = (self.seen_loss, self.seen_tokens)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.guard.load_state_dict(checkpoint["guard"])
        self.seen_loss, self.seen_tokens = checkpoint["epoch_sums"]
