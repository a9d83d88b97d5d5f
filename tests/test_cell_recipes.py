"""The recipes about cells as a user runs them, on a few updates."""

import csv
import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import started

from seq2seq.cells import CELLS


def run(recipe: str, *arguments: object, cwd: Path) -> CompletedProcess[str]:
    return started.run(f"recipes/{recipe}", *arguments, cwd=cwd, COLUMNS="140")


def test_gradient_flow_writes_a_table_every_distance_and_a_figure(tmp_path: Path) -> None:
    result = run("gradient_flow.py", "--smoke", "--steps", 12, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    out = tmp_path / "runs" / "gradient_flow"
    assert (out / "table.txt").read_text().strip() in result.stdout
    assert (out / "flow.png").read_bytes().startswith(b"\x89PNG")
    with (out / "flow.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {row["cell"] for row in rows}
    assert {name.split(",")[0] for name in names} == set(CELLS)
    assert len(rows) == len(names) * 2 * 12
    linear = [float(row["hidden"]) for row in rows if row["cell"] == "linear" and row["when"] == "after"]
    assert len(linear) == 12
    assert len(set(linear)) == 1


def test_memory_goes_on_where_it_stopped(tmp_path: Path) -> None:
    arguments = ["--smoke", "--cell", "lstm", "--cell", "linear", "--lag", 6, "--lag", 8]
    first = run("memory.py", *arguments, "--task", "adding", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    out = tmp_path / "runs" / "memory"
    assert not (out / "copy.txt").exists()
    kept = out / "adding-lstm-6-2-1.json"
    kept.write_text(json.dumps({"loss": 0.001, "solved": True, "updates": 77, "seconds": 1}))
    second = run("memory.py", *arguments, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "77" in (out / "adding.txt").read_text()
    assert "not: " in (out / "copy.txt").read_text()
    assert len(list(out.glob("*.json"))) == 8
    assert (out / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for recipe in ("gradient_flow.py", "memory.py"):
        result = run(recipe, "--smoke", "--out", tmp_path / "taken", cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("error: --out must be a folder that can be written, got ")
        assert result.stderr.count("\n") == 1


def test_a_seed_that_is_none_is_one_line(tmp_path: Path) -> None:
    for recipe, seed in (("gradient_flow.py", "-1"), ("memory.py", "4294967296")):
        result = run(recipe, "--smoke", "--seed", seed, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("error: Invalid value for '--seed': ")
        assert seed in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_result_that_cannot_be_written_is_one_line_and_shown_before(tmp_path: Path) -> None:
    for recipe, file in (
        ("gradient_flow.py", "table.txt"),
        ("gradient_flow.py", "flow.png"),
        ("memory.py", "adding.txt"),
    ):
        shutil.rmtree(tmp_path / recipe, ignore_errors=True)
        (tmp_path / recipe / file).mkdir(parents=True)
        only = ["--lag", 4, "--task", "adding", "--cell", "lstm"] if recipe == "memory.py" else ["--steps", 4]
        result = run(recipe, "--smoke", *only, "--out", tmp_path / recipe, cwd=tmp_path)
        assert result.returncode == 2
        assert "lstm" in result.stdout
        (last,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert f"{file}: cannot be written (Is a directory); make room for it, or give another --out" in last
        assert "Traceback" not in result.stderr


def test_memory_refuses_an_unknown_cell_in_one_line(tmp_path: Path) -> None:
    result = run("memory.py", "--cell", "transformer", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --cell must be one of rnn_tanh, ")
    assert result.stderr.count("\n") == 1


def test_compare_cells_ends_with_a_table(tmp_path: Path) -> None:
    result = run("compare_cells.py", "--smoke", "--cell", "gru_minimal", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = tmp_path / "runs" / "compare_cells" / "dates" / "table.csv"
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert row["cell"] == "gru_minimal"
    assert 0 <= float(row["EM|nrefs:1|case:mixed|version:0.1.0"]) <= 100
    again = run("compare_cells.py", "--smoke", "--cell", "gru_minimal", cwd=tmp_path)
    assert "epoch" not in again.stdout


def test_the_cost_of_cells_is_a_table(tmp_path: Path) -> None:
    result = run("benchmark_cells.py", "--smoke", "--batch", 2, "--steps", 3, "--units", 4, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert all(cell in result.stdout for cell in CELLS)
