"""Training: the LightningModule with its loss, optimiser, schedule and validation by translating; and a whole run.

Read first, in this order: `run` (`train`, a whole training), `module` (the `TranslationModule`), `loss`, `schedules`.
`engine` builds Lightning's trainer and its list of callbacks. The rest by what it is for:

    the step          guard (steps that would harm), sampling (scheduled sampling), processes (what several tell others)
    the beginning     ahead (what is refused early), start (what fits, other weights, frozen parts), vectors
                      (embeddings that others have trained), batch_size (`auto`)
    the best model    callbacks (`KeepBest`, and what is shown), averaging (means of weights)
    the records       loggers, metrics_file (`metrics.csv`), curves (`curves.png`), about (facts for the model card)
    resuming          checkpoints (the files), keeping (when, and what), continuing (whether), signals, endings
"""

from seq2seq.training.ahead import check_run
from seq2seq.training.loss import Losses, linear_cross_entropy
from seq2seq.training.module import TranslationModule
from seq2seq.training.run import train
from seq2seq.training.schedules import build_optimizer, build_schedulers, rate_factor
from seq2seq.training.vectors import vector_size

__all__ = [
    "Losses",
    "TranslationModule",
    "build_optimizer",
    "build_schedulers",
    "check_run",
    "linear_cross_entropy",
    "rate_factor",
    "train",
    "vector_size",
]
