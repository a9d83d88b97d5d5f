"""Frozen, validated configurations: what a model is, how it searches, how it is trained.

Unknown keys are refused, values are checked when the object is made, and `config.model_dump_json()` /
`ModelConfig.model_validate_json(text)` write and read it. A variant is `config.model_copy(update={...})`, which is
validated too.
"""

from seq2seq.config.base import BOS_ID, EOS_ID, FIRST_FREE_ID, PAD_ID, UNK_ID, Config, Precision
from seq2seq.config.model import ModelConfig
from seq2seq.config.recurrence import FUSED_CELLS, GATELESS_CELLS, CellName, RecurrenceConfig
from seq2seq.config.search import SearchConfig
from seq2seq.config.training import TrainingConfig

__all__ = [
    "BOS_ID",
    "EOS_ID",
    "FIRST_FREE_ID",
    "FUSED_CELLS",
    "GATELESS_CELLS",
    "PAD_ID",
    "UNK_ID",
    "CellName",
    "Config",
    "ModelConfig",
    "Precision",
    "RecurrenceConfig",
    "SearchConfig",
    "TrainingConfig",
]
