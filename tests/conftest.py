"""Shapes in signatures are checked while the modules that have them are tested: so they cannot rot."""

import os

# Tests run side by side, a process for each core; more threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import config, install_import_hook

CHECKED = ["cells", "attention", "recurrence", "encoder", "decoder", "model", "search", "diagnostics"]
# Checking takes longer than computing. It is for the tests of the modules themselves, not for those of their users.
CHECKED_IN = ("test_cells", "test_attention", "test_model", "test_search", "test_ensemble", "test_diagnostics")

install_import_hook([f"seq2seq.{module}" for module in CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True, scope="module")
def _shapes(request: pytest.FixtureRequest) -> None:
    config.update("jaxtyping_disable", not request.path.stem.startswith(CHECKED_IN))
