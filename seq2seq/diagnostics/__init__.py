"""Seeing what a model does: how gradients flow through time, what gates do, and where a translation looked."""

from seq2seq.diagnostics.attention import draw_attention
from seq2seq.diagnostics.callback import GradientFlow
from seq2seq.diagnostics.flow import Flow, gradient_flow, half_life
from seq2seq.diagnostics.gates import GateStatistics, gate_statistics

__all__ = [
    "Flow",
    "GateStatistics",
    "GradientFlow",
    "draw_attention",
    "gate_statistics",
    "gradient_flow",
    "half_life",
]
