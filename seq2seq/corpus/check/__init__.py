"""Looking at parallel text before a training does: what would make it fail, or its scores lie."""

from seq2seq.corpus.check.check import Tokeniser, check_data
from seq2seq.corpus.check.picture import check_picture, draw_report
from seq2seq.corpus.check.report import CheckReport, Finding, Histogram

__all__ = ["CheckReport", "Finding", "Histogram", "Tokeniser", "check_data", "check_picture", "draw_report"]
