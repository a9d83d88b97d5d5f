"""Shapes in signatures are checked while the tests run: a shape that is checked cannot rot."""

from jaxtyping import install_import_hook

CHECKED = ["cells", "attention", "recurrence", "encoder", "decoder", "model", "search", "diagnostics"]

install_import_hook([f"seq2seq.{module}" for module in CHECKED], "beartype.beartype")
