"""Text to token ids and back, through SentencePiece."""

from seq2seq.vocabulary.sampling import SubwordSampler
from seq2seq.vocabulary.training import BOS, EOS, PAD, UNK, Kind, check_symbols
from seq2seq.vocabulary.vocabulary import Vocabulary

__all__ = ["BOS", "EOS", "PAD", "UNK", "Kind", "SubwordSampler", "Vocabulary", "check_symbols"]
