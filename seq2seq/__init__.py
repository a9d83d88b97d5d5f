"""Recurrent encoder-decoder models: train with a recipe, translate from Python, evaluate from the command line.

>>> translator = seq2seq.Translator.load("runs/dates")
>>> translator.translate("21 November 2026")
'2026-11-21'
"""

from importlib import import_module
from typing import Any

# Name -> the module it is defined in, imported when the name is first used: `seq2seq --help` does not wait for torch,
# and translating does not import lightning.
_HOMES = {
    "Seq2SeqError": "errors",
    "ModelConfig": "config",
    "SearchConfig": "config",
    "TrainingConfig": "config",
    "Vocabulary": "vocabulary",
    "ParallelText": "corpus",
    "ParallelDataModule": "data",
    "Seq2Seq": "model",
    "TranslationModule": "training",
    "train": "training",
    "Request": "translator",
    "Translation": "translator",
    "Translator": "translator",
}

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'seq2seq' has no attribute {name!r}")
    return getattr(import_module(f"seq2seq.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
