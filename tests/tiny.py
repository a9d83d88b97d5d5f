"""A training small enough for a test: reversing words, in a fraction of a second."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer, seed_everything

from seq2seq.config import ModelConfig, TrainingConfig
from seq2seq.corpus import from_pairs
from seq2seq.data import ParallelDataModule
from seq2seq.training import TranslationModule
from seq2seq.training.engine import quieten
from seq2seq.vocabulary import Vocabulary

Kind = Literal["char", "bpe"]

WORDS = ["ab", "ba", "abc", "cab", "bacca", "acb", "cbabc", "bca", "aab", "bbaabcab", "c", "cc"]
PAIRS = [(word, word[::-1]) for word in WORDS]


@cache
def vocabulary(kind: Kind = "char") -> Vocabulary:
    """The characters; or pieces of words, which can be divided in several ways."""
    return Vocabulary.train(WORDS, 20 if kind == "char" else 14, kind=kind)


def model_config(kind: Kind = "char", **changes: Any) -> ModelConfig:
    """A tiny model without dropout."""
    size = len(vocabulary(kind))
    small = {"embedding_size": 8, "encoder_hidden_size": 8, "decoder_hidden_size": 16, "encoder_layers": 1}
    return ModelConfig(**{"source_vocabulary_size": size, "target_vocabulary_size": size, **small, **changes})


def training_config(**changes: Any) -> TrainingConfig:
    """Two batches an epoch, judged by loss."""
    settings = {"batch_tokens": None, "batch_sentences": 6, "learning_rate": 0.02, "monitor": "loss", "max_epochs": 2}
    return TrainingConfig(**{**settings, **changes})


def data_module(cache: Path, training: TrainingConfig, kind: Kind = "char", **options: Any) -> ParallelDataModule:
    """The words, for training and validation both."""
    text, tokens = from_pairs(PAIRS), vocabulary(kind)
    budget = {"batch_tokens": training.batch_tokens, "batch_sentences": training.batch_sentences}
    return ParallelDataModule(text, text, tokens, tokens, **budget, seed=training.seed, cache=cache, **options)


def module_of(training: TrainingConfig, model: ModelConfig | None = None) -> TranslationModule:
    """An untrained module, the same for the same seed."""
    seed_everything(training.seed, verbose=False)
    targets = [target for _, target in PAIRS]
    return TranslationModule(model or model_config(), training, vocabulary(), vocabulary(), targets)


def fit(
    cache: Path,
    training: TrainingConfig,
    model: ModelConfig | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> TranslationModule:
    """Train without loggers and checkpoints, on the CPU; `options` are the trainer's."""
    quieten()
    module = module_of(training, model)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=training.max_epochs,
        accumulate_grad_batches=training.accumulate,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(module, datamodule=data_module(cache, training))
    return module
