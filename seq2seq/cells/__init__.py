"""Recurrent cells: one time step each, written as its equations.

A cell owns its parameters; `recurrence` runs it over time, step by step or through a fused kernel of torch that reads
the same parameters.
"""

from seq2seq.cells.contract import Cell, CellStart, CellState, Gates, StepMasks
from seq2seq.cells.gru import GRUCell, MinimalGRUCell, ResetBeforeGRUCell
from seq2seq.cells.lstm import CoupledLSTMCell, LayerNormLSTMCell, LSTMCell, PeepholeLSTMCell
from seq2seq.cells.rnn import LinearCell, MemoryCell, ReluRNNCell, TanhRNNCell

__all__ = [
    "CELLS",
    "Cell",
    "CellStart",
    "CellState",
    "CoupledLSTMCell",
    "GRUCell",
    "Gates",
    "LSTMCell",
    "LayerNormLSTMCell",
    "LinearCell",
    "MemoryCell",
    "MinimalGRUCell",
    "PeepholeLSTMCell",
    "ReluRNNCell",
    "ResetBeforeGRUCell",
    "StepMasks",
    "TanhRNNCell",
]

CELLS: dict[str, type[Cell]] = {
    "rnn_tanh": TanhRNNCell,
    "rnn_relu": ReluRNNCell,
    "linear": LinearCell,
    "memory": MemoryCell,
    "lstm": LSTMCell,
    "lstm_peephole": PeepholeLSTMCell,
    "lstm_coupled": CoupledLSTMCell,
    "lstm_layer_norm": LayerNormLSTMCell,
    "gru": GRUCell,
    "gru_reset_before": ResetBeforeGRUCell,
    "gru_minimal": MinimalGRUCell,
}
"""Every cell by its name in `ModelConfig.cell`."""
