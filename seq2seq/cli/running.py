"""Running a command line: a user's mistake is one line on standard error and exit code 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from seq2seq.cli.output import printing
from seq2seq.errors import ConfigError, Seq2SeqError, one_line_errors

if TYPE_CHECKING:
    from seq2seq.config import SearchConfig

# typer carries its own copy of click or uses click itself, as the version goes.
UsageFault: Any = typer.BadParameter.__mro__[2]


def run_app(app: typer.Typer, arguments: Sequence[str], name: str) -> NoReturn:
    """Run one command line of an app, and end with its exit code."""
    if sys.stderr is None:  # It is closed: no file that is opened may take its place.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # open to the end
    with one_line_errors(), printing():
        try:
            code = app(args=list(arguments), prog_name=name, standalone_mode=False)
        except UsageFault as fault:
            message = fault.format_message()
            if not arguments and fault.__class__.__name__ == "NoArgsIsHelpError":  # the message is the help
                print(message)
                raise SystemExit(2) from None
            # Of an option without its value the parser does not tell to which command it belongs.
            command = f"{name} {arguments[0]}" if len(app.registered_commands) > 1 else name
            path = fault.ctx.command_path if fault.ctx else command
            message = message.replace("Value error, ", "").rstrip(".")
            raise ConfigError(f"{message}{given(fault, message)}; see {path} --help") from None
    sys.exit(code)


def given(fault: Any, message: str) -> str:
    """The wrong value, where the message does not repeat it: what typer checks with pydantic may leave it out."""
    errors = getattr(fault.__cause__, "errors", None)
    value = repr(errors()[0]["input"]) if errors else ""
    return "" if value in message else f", got {value}"


@contextmanager
def explained_memory(task: str, remedy: str) -> Iterator[None]:
    """Turn a lack of memory into one line.

    Args:
        task: what was too large, after "out of memory".
        remedy: what makes it smaller.

    Raises:
        Seq2SeqError: if there was not enough of it.
    """
    try:
        yield
    except Seq2SeqError:
        raise
    except Exception as error:
        from seq2seq.resources import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise Seq2SeqError(f"out of memory {task}; {remedy}") from None


def memory_of(config: SearchConfig) -> tuple[str, str]:
    """For `explained_memory`: what takes most of it in translating, and how it takes less."""
    name = "samples" if config.samples else "beam_size"
    return (
        f"in translating with {name}={getattr(config, name)}",
        f"lower --{name.replace('_', '-')}, or divide long lines",
    )


def make_folder(path: Path) -> None:
    """Make the folder of `--out`, if it is not there.

    Raises:
        ConfigError: if it cannot be one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out must be a folder that can be written, got {path} ({error.strerror})") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk says to the writing of a file or folder into one line.

    Raises:
        Seq2SeqError: if it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise Seq2SeqError(
            f"{path}: cannot be written ({error.strerror}); make room for it, or give another --out"
        ) from None


def run_recipe(main: Callable[..., None]) -> NoReturn:
    """Run the one function of a script, whose parameters are its options."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(one_line_errors()(main))
    run_app(app, sys.argv[1:], Path(sys.argv[0]).name)
