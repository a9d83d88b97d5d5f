"""How a training can end before its time, in words that help: stopped, out of memory, out of disk."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from seq2seq.config import TrainingConfig
from seq2seq.errors import TrainingError
from seq2seq.resources import is_out_of_memory
from seq2seq.training.checkpoints import GOES_ON
from seq2seq.training.keeping import KeepState
from seq2seq.training.module import TranslationModule
from seq2seq.training.processes import SharedError, is_first_process, say
from seq2seq.training.signals import Stopped

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What torch says in a process that waits for one that is gone."""

_NO_PLACE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


@contextmanager
def explained(out: Path, trainer: Trainer, module: TranslationModule, state: KeepState) -> Iterator[None]:
    """Turn what ends a training early into one line and an exit code, in each of its processes.

    Raises:
        TrainingError: if memory or disk were too small.
        KeyboardInterrupt: after Ctrl-C, for exit code 130.
        SystemExit: after SIGTERM, with 143, or a closed terminal, with 129; in silence, where another process tells
            what happened.
    """
    try:
        yield
    except Stopped as stopped:
        say_how_to_go_on(state)
        if stopped.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + stopped.number) from None
    except SystemExit:
        # Lightning ends the process with 1 after a Ctrl-C that came before the first step; by custom it is 130.
        say_how_to_go_on(state)
        raise KeyboardInterrupt from None
    except SharedError:
        if is_first_process():
            raise
        # 0, because Lightning would kill the first process at once, before it has told why.
        raise SystemExit(0) from None
    except (TrainingError, OSError, MemoryError, RuntimeError) as error:
        end_children(trainer)
        told = explain(error, out, module)
        if told is None:
            raise
        if is_lost(error) and not is_first_process():
            raise SystemExit(2) from None
        raise told from None


def end_children(trainer: Trainer) -> None:
    """End the processes that Lightning started from this one, which may wait for it."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def say_how_to_go_on(state: KeepState) -> None:
    """Where the same command takes up the work."""
    if state.saved_step < 0:
        say("stopped before the first step")
    else:
        say(f"stopped; saved at step {state.saved_step}: the same command goes on from there")


def explain(error: Exception, out: Path, module: TranslationModule) -> TrainingError | None:
    """The error in the user's terms; `None`: it is none of the user's."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, OSError):
        if error.errno not in _NO_ROOM | _NO_PLACE:
            return None
        place = f"{error.filename or out}: cannot be written ({error.strerror})"
        if error.errno in _NO_PLACE:
            return TrainingError(f"{place}; choose another --out, or mend this one and the same command goes on")
        return TrainingError(f"{place}{GOES_ON}")
    if is_out_of_memory(error):
        return TrainingError(f"out of memory{described(module, module.training_config)}")
    if is_lost(error):
        return TrainingError("another process of this training has ended; see what it said, the same command goes on")
    return None


def is_lost(error: Exception) -> bool:
    """Whether another process is gone, for which this one waited."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _LOST)


def described(module: TranslationModule, config: TrainingConfig) -> str:
    """The batch that was too large, and the setting that makes it smaller."""
    size = f"batch_tokens (now {config.batch_tokens})"
    if config.batch_sentences is not None:
        size = f"batch_sentences (now {config.batch_sentences})"
    if module.batch is None:
        return f" before the first batch; choose a smaller model, or lower {size}"
    (pairs, source), target = module.batch.source.shape, module.batch.target.shape[1]
    return f" at a batch of {pairs} pairs of {source} source and {target} target tokens; lower {size}"
