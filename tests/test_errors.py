"""How a command or a recipe ends."""

import subprocess
import sys

import pytest

from seq2seq.errors import CorpusError, one_line_errors

RECIPE = """
import typer
from seq2seq.errors import one_line_errors
@one_line_errors()
def main(out: str = "here"):
    raise {error}
typer.run(main)
"""


def test_a_bug_in_a_recipe_ends_with_python_s_own_traceback() -> None:
    program = RECIPE.format(error="LookupError('a bug')")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("Traceback (most recent call last):\n")
    assert run.stderr.endswith("LookupError: a bug\n")
    assert "─" not in run.stderr


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (CorpusError("it must be so"), 2, "error: it must be so\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(3), 3, ""),
    ],
)
def test_a_mistake_is_one_line(error: BaseException, code: int, shown: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert capsys.readouterr().err == shown
    assert ended.value.code == code
