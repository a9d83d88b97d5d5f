"""How much memory there is, as a system says it."""

from pathlib import Path

import pytest
import torch

from seq2seq import resources


def group(folder: Path, limit: str, used: int, **files: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "max": limit,
        "current": f"{used}",
        "stat": "".join(f"{k} {v}\n" for k, v in files.items()),
    }.items():
        (folder / f"memory.{name}").write_text(text)


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (("max", 10, {}), 600),
        (("500", 450, {"active_file": 30, "inactive_file": 300, "anon": 100}), 380),
        (("500", 600, {}), 0),
        (("5000", 600, {}), 600),
    ],
)
def test_the_narrowest_limit_of_all_groups_counts(job, expected: int, tmp_path: Path) -> None:
    """What a group holds of files can be dropped, and is no use of memory."""
    limit, used, files = job
    group(tmp_path / "slice", "1000", 500, inactive_file=100)
    group(tmp_path / "slice" / "grün", limit, used, **files)
    (tmp_path / "own").write_text("0::/slice/grün\n", encoding="utf-8")
    assert resources._container(tmp_path, tmp_path / "own") == expected


def test_without_limits_the_system_says(tmp_path: Path) -> None:
    group(tmp_path / "unlimited", "max", 10)
    group(tmp_path / "limited", "100", 10)
    found = [resources._container(tmp_path / root, tmp_path / "nothing") for root in ("none", "unlimited", "limited")]
    assert found == [None, None, 90]
    assert resources.available_memory(torch.device("cpu")) > 0
