"""Cells run over time: layers, directions, lengths.

Two paths over the same parameters: a fused kernel of torch where one exists, and the readable unrolled loop, its twin;
`Layer.run` says which is taken. Rows may end early (`lengths`), and what lies behind a row's end never matters.
"""

from seq2seq.recurrence.dropout import drop, drop_features
from seq2seq.recurrence.layer import Layer, LayerMasks
from seq2seq.recurrence.stack import Recurrence, RecurrenceOutput, StackState
from seq2seq.recurrence.time import unroll

__all__ = ["Layer", "LayerMasks", "Recurrence", "RecurrenceOutput", "StackState", "drop", "drop_features", "unroll"]
