"""How much memory is there, and how much a piece of work takes of it."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

_NO_MEMORY = (
    "can't allocate memory",
    "ALLOC_FAILED",
    "out of memory",
    "Storage size calculation overflowed",
    "Maximum allowed dimension exceeded",
    "array is too big",
)
"""What torch and NumPy say of it."""


def available_memory(device: torch.device) -> int:
    """Bytes that could still be used; two gibibytes where nobody can tell."""
    if device.type == "cuda":
        # What torch holds in reserve is free for its next tensors.
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserve
    found = [_meminfo(), _container()]
    return min((size for size in found if size is not None), default=2 << 30)


def _meminfo() -> int | None:
    """What Linux thinks can be used without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _container(root: str | os.PathLike[str] = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int | None:
    """What the limits of containers leave: of this process's control group (version 2), and of those around it."""
    found = [_group(group) for group in _limited_groups(Path(root), own)]
    return min((size for size in found if size is not None), default=None)


@cache
def _limited_groups(root: Path, own: str) -> list[Path]:
    """The control groups that this process is in and that have a limit: looked for once, as they hardly change."""
    try:
        lines = os.fsdecode(Path(own).read_bytes()).split("\n")
    except OSError:
        lines = []
    names = [line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")]
    inner = [root / name for name in names]
    groups = [group for one in inner for group in (one, *one.parents) if group.is_relative_to(root)]
    return [group for group in dict.fromkeys([root, *groups]) if _group(group) is not None]


def _group(group: Path) -> int | None:
    """What the limit of one control group leaves; what it holds of files can be dropped at any time."""
    try:
        limit, used = ((group / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        left = int(limit) - int(used)
    except (OSError, ValueError):  # "max" is no limit
        return None
    with suppress(OSError, ValueError):
        facts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        left += int(facts.get("active_file", 0)) + int(facts.get("inactive_file", 0))
    return max(0, left)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch, NumPy or Python could not get memory, or were asked for more than can be counted."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _NO_MEMORY)


class Peak:
    """The most memory that is in use from now on, beyond what is in use now.

    On a CPU it is the memory of this process that is resident, on a GPU what torch has reserved there.

    Args:
        device: a CPU or GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.forget()
        cuda = device.type == "cuda"
        self.before = torch.cuda.memory_reserved(device) if cuda else _status("VmRSS") or _largest_resident()

    def forget(self) -> None:
        """Look at what comes from now on alone; it is still compared with what was in use at first."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with suppress(OSError):  # Linux can forget earlier peaks.
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def growth(self) -> int:
        """Bytes; where the system cannot forget peaks, those before count too."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device) - self.before
        return (_status("VmHWM") or _largest_resident()) - self.before


def give_back() -> None:
    """Let the C library return what is free to the system: after work that took much more than what follows."""
    with suppress(OSError, AttributeError):  # glibc's alone.
        ctypes.CDLL(None).malloc_trim(0)


def _status(name: str) -> int | None:
    """A figure of this process, in bytes, as Linux tells it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), None)


def _largest_resident() -> int:
    """The most memory that this process has ever had resident, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest << 10
