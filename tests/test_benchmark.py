"""The benchmark's own counting, on a small model."""

import sys
from pathlib import Path

import pytest
import torch
from configurations import SMALL, configurations, name
from started import run
from torch.utils.flop_counter import FlopCounterMode

from seq2seq.config import EOS_ID, ModelConfig, SearchConfig
from seq2seq.model import Seq2Seq


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    import benchmark_decoding

    yield benchmark_decoding
    for module in ("benchmark_decoding", "benchmark_floor"):
        sys.modules.pop(module, None)


def test_steps_and_waste_are_counted(benchmark) -> None:
    torch.manual_seed(3)
    model = Seq2Seq(SMALL).eval()
    lengths = torch.tensor([3, 5, 9])
    source = torch.full((3, 9), 0)
    for row, length in enumerate(lengths):
        source[row, : length - 1], source[row, length - 1] = 5, EOS_ID
    found = benchmark.decode(
        model, model.step, (source, lengths), SearchConfig(beam_size=1, **benchmark.LIKE_THE_SOURCE)
    )
    # As many tokens as the source without its end, and the end: no row is stepped when its sentence is complete.
    assert (found.steps, found.rows, found.wasted) == (9, 3 + 5 + 9, 0)
    read, write = benchmark.multiplications(model, 17, 17, 3 * 3 + 5 * 5 + 9 * 9)
    assert found.arithmetic == read + write
    found = benchmark.decode(
        model, model.step, (source, lengths), SearchConfig(beam_size=4, **benchmark.LIKE_THE_SOURCE)
    )
    assert (found.steps, found.wasted) == (9, 0)
    assert 3 + 5 + 9 < found.rows <= 4 * (3 + 5 + 9)


@pytest.mark.parametrize("config", configurations()[::2], ids=name)
def test_multiplications_are_those_that_torch_counts(benchmark, config: ModelConfig) -> None:
    model = Seq2Seq(config.model_copy(update={"fused": False})).eval()
    source, target = torch.tensor([[5, 6, 7, 5, EOS_ID]]), torch.tensor([[6, 7, EOS_ID]])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.classify(model.features(source, torch.tensor([5]), target))
    once = sum(weight.numel() for weight in model.bridge.parameters() if weight.dim() == 2)
    # In the product for all heads at once most numbers are zeros, which nobody needs to multiply.
    zeros = 15 * (config.attention_heads - 1) * config.decoder_hidden_size * len(model.decoder.attentions)
    once += zeros if config.attention == "multi_head_additive" else 0
    assert sum(benchmark.multiplications(model, 5, 3, 15)) == counter.get_total_flops() // 2 - once


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_rate_is_that_of_products_in_the_precision(benchmark, monkeypatch, precision: str) -> None:
    multiplied = []
    monkeypatch.setattr(torch, "mm", lambda left, right: multiplied.append((left.dtype, right.dtype)))
    assert benchmark.matrix_rate(precision, seconds=0.01) > 0
    assert set(multiplied) == {(getattr(torch, precision),) * 2}


def test_a_row_has_a_figure_for_every_heading(benchmark, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(benchmark, "matrix_rate", lambda precision: asked.append(precision) or 1e9)
    monkeypatch.setattr(benchmark, "bandwidth", lambda: 1e9)
    monkeypatch.setattr(benchmark, "VOCABULARY", SMALL.source_vocabulary_size)
    model = Seq2Seq(SMALL).eval()
    for size in (1, 4):
        sources = benchmark.random_sources(size, 2)
        row = benchmark.measure_batches(
            model, benchmark.prepare(model), sources, 2, "bfloat16", benchmark.LIKE_THE_SOURCE
        )
        assert len(row) == len(benchmark.HEADINGS)
        assert (row[0], row[6]) == (f"beam 2, batch {size}", "0.0%")
    # The floor is that of the row's own precision.
    assert set(asked) == {"bfloat16"}


@pytest.mark.parametrize(
    ("text", "options", "fault"),
    [
        ("a\n", ["--precision", "fp16"], "--precision must be float32 or bfloat16, got fp16"),
        ("\n \n", [], "must hold text"),
    ],
)
def test_what_cannot_be_measured_is_one_line(text: str, options: list[str], fault: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(text)
    result = run("recipes/benchmark_decoding.py", tmp_path, "--source", tmp_path / "in", *options, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert fault in result.stderr


def test_weights_that_a_step_reads_are_counted_once(benchmark) -> None:
    tied = Seq2Seq(SMALL)
    loose = Seq2Seq(SMALL.model_copy(update={"tied_embeddings": "none", "bottleneck_size": SMALL.embedding_size}))
    assert benchmark.bytes_read(tied) == benchmark.bytes_read(loose)
    reading, stepping = benchmark.bytes_read(tied)
    looked_up = tied.encoder.embedding.weight.numel() + tied.decoder.bottom_cell.weight_input.numel()
    assert reading + stepping == 4 * (sum(weight.numel() for weight in tied.parameters()) - looked_up)
