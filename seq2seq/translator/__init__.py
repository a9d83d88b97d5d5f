"""Translating with a model folder, and reporting how well it does."""

from seq2seq.translator.report import report
from seq2seq.translator.translator import Translation, Translator

__all__ = ["Translation", "Translator", "report"]
