"""Tokenised memory-mapped corpora, length-bucketed batches, and the data module that training runs on.

Read `module` (the `ParallelDataModule`) first, then `plan` (which pairs form which batches). Ids are made by
`vocabularies` and `tokenising`, lie in the files of `tokens`, and are drawn anew in every epoch by `sampling`.
"""

from seq2seq.data.module import Batch, Batches, ParallelDataModule, padding_share
from seq2seq.data.plan import Budget, batch_plan, planned_padding, sorted_plan
from seq2seq.data.tokenising import tokenise
from seq2seq.data.tokens import Tokens
from seq2seq.data.vocabularies import joint_vocabulary

__all__ = [
    "Batch",
    "Batches",
    "Budget",
    "ParallelDataModule",
    "Tokens",
    "batch_plan",
    "joint_vocabulary",
    "padding_share",
    "planned_padding",
    "sorted_plan",
    "tokenise",
]
