"""Training: the LightningModule with its loss, optimiser, schedule and validation by translating; and a whole run."""

from seq2seq.training.loss import Losses, linear_cross_entropy
from seq2seq.training.module import TranslationModule
from seq2seq.training.run import train
from seq2seq.training.schedules import build_optimizer, build_schedulers, rate_factor

__all__ = [
    "Losses",
    "TranslationModule",
    "build_optimizer",
    "build_schedulers",
    "linear_cross_entropy",
    "rate_factor",
    "train",
]
