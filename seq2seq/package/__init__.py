"""The model folder: everything that translating needs, in files that run no code when they are read."""

from seq2seq.package.adding import add_lexicon
from seq2seq.package.folder import CARD, CONFIG, LEXICON, SOURCE, TARGET, WEIGHTS, Package, load, save
from seq2seq.package.mean import average
from seq2seq.package.metadata import FORMAT_VERSION, Metadata

__all__ = [
    "CARD",
    "CONFIG",
    "FORMAT_VERSION",
    "LEXICON",
    "SOURCE",
    "TARGET",
    "WEIGHTS",
    "Metadata",
    "Package",
    "add_lexicon",
    "average",
    "load",
    "save",
]
