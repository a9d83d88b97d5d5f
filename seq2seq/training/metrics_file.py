"""`metrics.csv`: a row for every logged step, on the disk at once."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from seq2seq.errors import TrainingError
from seq2seq.training.checkpoints import GOES_ON, reason


class MetricsFile(Logger):
    """Writes what is logged to a CSV file.

    A run that goes on from a saved state takes back the rows that were written since (`truncate`), and writes them
    again: the file is that of an uninterrupted run. Columns are added as they come, with blanks in the rows before.

    Args:
        path: the file; its folder is made.

    Attributes:
        rows: written so far, without the heading.
        fault: why writing failed, "" if it did not. It is noted rather than raised, for only the first process writes,
            and the others would wait for it: `KeepState` lets all of them stop.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows = 0
        self.columns: list[str] = []
        self.fault = ""

    @property
    def name(self) -> str:
        """Lightning's name for the experiment: none."""
        return ""

    @property
    def version(self) -> str:
        """Lightning's version of the experiment: none."""
        return ""

    @rank_zero_only
    def truncate(self, rows: int) -> None:
        """Take back all but the first rows; 0 begins a new file."""
        kept: list[dict[str, str]] = []
        self.columns = []
        if rows and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                kept = [row for _, row in zip(range(rows), reader, strict=False)]
                self.columns = list(reader.fieldnames or [])
        self.rows = len(kept)
        self._rewrite(kept)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """One row."""
        try:
            self._add(metrics, step)
        except OSError as error:
            self.fault = f"{self.path}: cannot be written ({reason(error)}){GOES_ON}"

    def _add(self, metrics: Mapping[str, Any], step: int | None) -> None:
        row = {
            "step": step,
            **{name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()},
        }
        if new := [name for name in row if name not in self.columns]:
            with self.path.open(newline="", encoding="utf-8") as file:
                before = list(csv.DictReader(file))
            self.columns += new
            self._rewrite(before)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        self.rows += 1

    def check(self) -> None:
        """Raise what could not be written.

        Raises:
            TrainingError: if there is something.
        """
        if self.fault:
            raise TrainingError(self.fault)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They stand in the model folder's `config.json`."""

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """After a crash there is the old file or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            if self.columns:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows)
        part.replace(self.path)
