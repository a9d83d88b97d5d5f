"""`seq2seq translate --devices N`: the lines of the input divided among processes, their translations in its order.

All lines are read first, in the blocks that one process would translate together. Each process goes through all blocks
and translates some batches of each, the same batches as one process: so the output is the same, byte for byte, as long
as sums do not depend on how many threads there are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import IO, Any

from seq2seq import errors
from seq2seq.cli.lines import open_blocks
from seq2seq.cli.options import MachineOptions, SearchOptions
from seq2seq.cli.output import Output
from seq2seq.cli.work import REMARKS, Remarks, Work
from seq2seq.errors import ConfigError, PackageError, Seq2SeqError

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True)
class Job:
    """What every process is told.

    Attributes:
        folder: `blocks`, a line of JSON each, and the parts of the output.
        port: at which the processes meet.
        shown: whether to count lines on standard error.
    """

    work: Work
    models: Sequence[Path]
    search: SearchOptions
    machine: MachineOptions
    devices: int
    folder: Path
    port: int
    shown: bool

    def blocks(self) -> Iterator[tuple[int, list[str]]]:
        """The blocks, each with the number of lines before it."""
        with (self.folder / "blocks").open(encoding="utf-8") as file:
            for line in file:
                before, block = json.loads(line)
                yield before, block

    def part(self, rank: int) -> Path:
        """Where a process writes: for each block a line of JSON, from the line's number in it to what is shown, and
        the numbers of the speechless."""
        return self.folder / f"part-{rank}"


@dataclass(frozen=True, order=True)
class Fault:
    """What went wrong in a process: the user's mistake that the block holds, or -1 for all blocks.

    All processes find a faulty line, and show their shares of those `before` it; other mistakes are found by one of
    them, and leave the block incomplete.
    """

    block: int
    before: int
    kind: str
    message: str


def translate_together(
    work: Work,
    models: Sequence[Path],
    search: SearchOptions,
    machine: MachineOptions,
    devices: int,
    input_path: Path | None,
    output_path: Path | None,
) -> None:
    """Translate in several processes; the options are those of `translate`.

    Raises:
        Seq2SeqError: as one process would, after the lines before the fault.
    """
    machine.check(models)
    check(machine, devices)
    for folder in models:
        check_model(folder)
    with (
        temporary_folder() as (folder, children),
        Remarks(work.name) as remarks,
        Output(output_path) as output,
    ):
        shown = output_path is not None or not os.isatty(1)
        job = Job(work, models, search, machine, devices, folder, free_port(), shown)
        count, broken = keep_blocks(job, input_path)
        fault = run(job, children) if count else None
        merge(job, output, remarks, count, fault)
        if fault is not None:
            raise getattr(errors, fault.kind)(fault.message)
        if broken is not None:
            raise broken


def check_model(folder: Path) -> None:
    """Refuse what is no model folder, before the input is read; what else may be wrong with it is found with it.

    Raises:
        PackageError: with the reason.
    """
    for place in ("config.json", ".saved/config.json"):  # A save that was killed left it in the second one.
        try:
            (folder / place).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise PackageError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
        return
    raise PackageError(f"{folder}: is not a model folder (it has no config.json); give one that a recipe left")


def check(machine: MachineOptions, devices: int) -> None:
    """Refuse what cannot be divided.

    Raises:
        ConfigError: for fewer devices than 1, or more than there are.
    """
    if devices < 1:
        raise ConfigError(f"devices must be at least 1, got {devices}; leave it out for one process")
    if machine.device not in ("cpu", "gpu", "cuda", "auto"):
        raise ConfigError(f"--devices chooses among cpu and gpu, got --device {machine.device}; give one of them")
    if machine.device != "cpu":
        import torch

        there = torch.cuda.device_count()
        if devices > there and (there or machine.device != "auto"):
            raise ConfigError(
                f"devices must be at most the GPUs of this machine, {there}, got {devices}; "
                "ask for fewer, or for --device cpu"
            )


@contextmanager
def temporary_folder() -> Iterator[tuple[Path, list[BaseProcess]]]:
    """A folder and a list of processes, neither of which outlasts what is done with them, nor Ctrl-C, SIGTERM and a
    terminal that is closed.

    Raises:
        Seq2SeqError: if the folder cannot be written.
    """
    children: list[BaseProcess] = []
    folder: Path | None = None

    def clear() -> None:
        started = [child for child in children if child.pid is not None]
        for child in started:
            child.kill()
        for child in started:
            child.join()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # Python's
        clear()
        signal.signal(number, signal.SIG_DFL)  # So that a shell sees what has ended it.
        os.kill(os.getpid(), number)

    # What is ignored stays so: nohup lets a command outlast its terminal.
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        folder = Path(tempfile.mkdtemp(prefix="seq2seq-"))
        yield folder, children
    except OSError as error:
        raise Seq2SeqError(
            f"{folder or tempfile.gettempdir()}: cannot be written ({error.strerror}); set TMPDIR to a place with room"
        ) from None
    finally:
        clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def keep_blocks(job: Job, input_path: Path | None) -> tuple[int, Seq2SeqError | None]:
    """Write the input's blocks down: how many they are, and the fault that ended the reading before its end."""
    from seq2seq.translator import BLOCK

    count = before = 0
    broken: list[Seq2SeqError] = []

    def lines() -> Iterator[str]:
        with closing(open_blocks(input_path, BLOCK)) as blocks:
            try:
                yield from chain.from_iterable(blocks)
            except Seq2SeqError as error:
                broken.append(error)

    every = lines()
    with (job.folder / "blocks").open("w", encoding="utf-8") as file:
        while block := list(islice(every, BLOCK)):
            file.write(json.dumps([before, block]) + "\n")
            count, before = count + 1, before + len(block)
    return count, broken[0] if broken else None


def run(job: Job, children: list[BaseProcess]) -> Fault | None:
    """Start the processes and wait for them; the first fault that one of them met.

    Raises:
        Seq2SeqError: if one was killed.
        SystemExit: if one failed; it has told why.
    """
    from seq2seq.cli.worker import work

    # A fresh interpreter each: torch's threads and CUDA outlast no fork.
    context = multiprocessing.get_context("spawn")
    # Else it is started with the first child, and lets the signals through that are held back below.
    resource_tracker.ensure_running()
    pipes = []
    # Ctrl-C in a terminal reaches all processes; the children leave it to this one, which ends them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        for rank in range(job.devices):
            reading, writing = context.Pipe(duplex=False)
            child = context.Process(target=work, args=(job, rank, writing), daemon=True)
            children.append(child)
            child.start()
            writing.close()
            pipes.append(reading)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    waiting: list[BaseProcess] = list(children)
    while waiting:
        wait([child.sentinel for child in waiting], timeout=1)  # A signal that came just before it is heard after it.
        for ended in [child for child in waiting if child.exitcode is not None]:
            waiting.remove(ended)
            check_end(ended)
    return min(chain.from_iterable(map(received, pipes)), default=None)


def check_end(child: BaseProcess) -> None:
    """Raise unless a process ended as it should."""
    code = child.exitcode or 0
    if code > 0:
        raise SystemExit(code)
    if code < 0:
        raise Seq2SeqError(f"a process was killed by signal {-code}; where memory is short, lower --devices")


def received(pipe: Connection) -> Iterable[Fault]:
    """What a process that has ended sent."""
    with suppress(EOFError):
        while pipe.poll():
            yield pipe.recv()


def merge(job: Job, output: Output, remarks: Remarks, count: int, fault: Fault | None) -> None:
    """Write the parts of so many blocks in the order of the input, up to the faulty line, and note the remarks."""
    if fault is not None:
        count = fault.block + (fault.before > 0)
    if count <= 0:
        return
    with ExitStack() as stack:
        parts: list[IO[Any]] = [
            stack.enter_context(job.part(rank).open(encoding="utf-8")) for rank in range(job.devices)
        ]
        for block, (before, lines) in enumerate(islice(job.blocks(), count)):
            end = fault.before if fault is not None and block == fault.block else len(lines)
            shares = [json.loads(part.readline()) for part in parts]
            shown = {int(number): text for texts, _ in shares for number, text in texts.items()}
            for remark in REMARKS:
                numbers = sorted(number for _, noted in shares for number in noted.get(remark, ()) if number < end)
                remarks.add({remark: numbers}, before)
            output.write("".join(shown[number] for number in sorted(shown) if number < end))
