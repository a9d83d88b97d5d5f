"""Translating with a model folder, and reporting how well it does.

translator      the whole: texts are sorted, divided into batches, translated, and put back in order; begin here
texts           what goes in (`Request`) and what comes out (`Translation`, `Scored`)
batches         which texts are translated together
ensemble        models side by side, as one step function
layout          weights as a step reads them fastest
finding         from requests to hypotheses: the order in which step functions are wrapped
choice          which tokens may be said: all, or a short list
demands         prefixes and constraints as tokens
guiding         step functions that let nothing else through
display         a hypothesis as a user sees it
alignment       from attention over tokens to words
consensus       minimum Bayes risk
report          the test set: scores, samples, the model card
"""

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
