"""Translating with a model folder, and reporting how well it does."""

from seq2seq.translator.batches import Share
from seq2seq.translator.report import is_reported, report
from seq2seq.translator.texts import Request, Scored, Translation, perplexity
from seq2seq.translator.translator import BLOCK, Options, Translator

__all__ = [
    "BLOCK",
    "Options",
    "Request",
    "Scored",
    "Share",
    "Translation",
    "Translator",
    "is_reported",
    "perplexity",
    "report",
]
