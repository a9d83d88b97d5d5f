"""Shapes in signatures are checked while the tests run: a shape that is checked cannot rot."""

import os

# Tests run side by side, a process for each core; more threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

CHECKED = ["cells", "attention", "recurrence", "encoder", "decoder", "model", "search", "diagnostics"]

install_import_hook([f"seq2seq.{module}" for module in CHECKED], "beartype.beartype")
