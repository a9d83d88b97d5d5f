"""Lightning's part of `seq2seq translate --devices N`; slow to import, and imported by its processes alone."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from torch import distributed

from seq2seq.cli.output import LineCounter
from seq2seq.cli.worker import Faults
from seq2seq.config import SearchConfig
from seq2seq.errors import Seq2SeqError
from seq2seq.resources import available_memory
from seq2seq.translator import Share, Translator

if TYPE_CHECKING:
    from seq2seq.cli.together import Job

Block = tuple[int, int, list[str]]
"""Its number, the number of lines before it, and its lines."""


class Blocks:
    """The blocks of a job, up to the last that is of interest; it stands where a `DataLoader` would."""

    def __init__(self, job: Job, faults: Faults) -> None:
        self.job = job
        self.faults = faults

    def __iter__(self) -> Iterator[Block]:
        for number, (before, lines) in enumerate(self.job.blocks()):
            if number > self.faults.last:
                return
            yield number, before, lines


class Predictor(LightningModule):
    """Translates this process's share of each block, and writes what is shown of it.

    No fault is raised, so that no process waits for one that is gone: it is told, and all end their loops.
    """

    def __init__(self, job: Job, faults: Faults) -> None:
        super().__init__()
        self.job = job
        self.faults = faults
        self.share = Share()
        self.loaded: tuple[Translator, SearchConfig] | None = None
        self.part: IO[str] | None = None
        self.counter = LineCounter(shown=False)

    def on_predict_start(self) -> None:
        """Read the models, and agree on the memory that a batch may take."""
        rank, job = self.trainer.global_rank, self.job
        device = self.trainer.strategy.root_device
        on_cpu = device.type == "cpu"
        threads = job.machine.threads or (max(1, torch.get_num_threads() // job.devices) if on_cpu else None)
        machine = replace(job.machine, device=str(device), threads=threads)
        try:
            translator = machine.load(job.models)
            self.loaded = translator, job.search.config(translator)
            self.part = job.part(rank).open("w", encoding="utf-8")
        except Seq2SeqError as error:
            self.faults.tell(error, -1)
        memory = torch.tensor(available_memory(device) // (job.devices if on_cpu else 1), device=device)
        distributed.all_reduce(memory, distributed.ReduceOp.MIN)
        self.share = Share(rank, job.devices, int(memory))
        self.counter = LineCounter(shown=job.shown and rank == 0)

    def predict_step(self, batch: Block) -> bool:
        """Write a line of JSON; False if there was a fault."""
        number, before, lines = batch
        if self.loaded is None or self.part is None:
            return False
        # A block may be fewer batches than there are processes: each begins with another process.
        share = replace(self.share, rank=(self.share.rank + number) % self.share.ranks)
        try:
            shown = self.job.work.of(lines, before, *self.loaded, share)
            write(self.part, json.dumps([shown.lines, shown.remarks]))
        except Seq2SeqError as error:
            self.faults.tell(error, number)
            return False
        self.counter.add(shown.before)
        if shown.fault:
            self.faults.tell(shown.fault, number, shown.before)
        return shown.fault is None

    def on_predict_end(self) -> None:
        self.counter.end()
        if self.part is not None:
            self.part.close()


def write(file: IO[str], line: str) -> None:
    """A line, out at once.

    Raises:
        Seq2SeqError: if there is no room for it.
    """
    try:
        file.write(f"{line}\n")
        file.flush()
    except OSError as error:
        raise Seq2SeqError(
            f"{file.name}: cannot be written ({error.strerror}); set TMPDIR to a place with room"
        ) from None


def predict(job: Job, faults: Faults) -> None:
    """Run the loop in a process whose environment names its rank and where to meet the others."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning calling torch.
    on_gpu = job.machine.device != "cpu" and torch.cuda.is_available()
    trainer = Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=job.devices,
        strategy="ddp",
        plugins=[LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(Predictor(job, faults), Blocks(job, faults), return_predictions=False)
