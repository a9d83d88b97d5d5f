"""Looking at parallel text before a training does: what would make it fail, or its scores lie."""

from seq2seq.corpus.check.check import Tokeniser, check_data
from seq2seq.corpus.check.picture import draw_report
from seq2seq.corpus.check.report import CheckReport, Finding, Histogram

__all__ = ["CheckReport", "Finding", "Histogram", "Tokeniser", "check_data", "draw_report"]
