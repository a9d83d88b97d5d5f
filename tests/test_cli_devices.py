"""Lines divided among processes: the output of one process, byte for byte, whatever is asked for."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from translators import SEARCH, TEXTS, build, packaged

from seq2seq import package
from seq2seq.cli import app
from seq2seq.cli.output import Output
from seq2seq.cli.predicting import Predictor
from seq2seq.cli.together import Fault, Job, merge
from seq2seq.cli.work import Remarks, Shown
from seq2seq.config import SearchConfig
from seq2seq.translator import Request, Share
from seq2seq.translator import batches as batches_module

COMMAND = [sys.executable, "-m", "seq2seq", "translate"]
SHORT = ["--max-length", "6", "--beam-size", "3"]
LINES = "".join(f"{text}\n" for text in TEXTS * 5).encode()


@pytest.mark.parametrize(
    ("search", "options"),
    [
        (SEARCH, {"attention": True, "alignments": True}),
        (SearchConfig(samples=3, max_length=6), {"utility": "chrf"}),
    ],
)
def test_the_shares_of_all_processes_are_what_one_makes(search, options, monkeypatch) -> None:
    """Bit for bit: scores depend on which texts are translated together."""
    monkeypatch.setattr(batches_module, "ROWS", 6)
    translator = build()
    texts = [Request(text, prefix="a" if n % 3 else "") for n, text in enumerate(TEXTS)]
    whole = translator.generate(texts, search, **options)
    for ranks in (2, 20):
        shares = [translator.generate_share(texts, search, Share(rank, ranks), **options) for rank in range(ranks)]
        assert sorted(number for share in shares for number in share) == list(range(len(texts))), "each text once"
        assert sum(map(bool, shares)) >= min(ranks, 3), "the work is divided"
        merged = {number: found for share in shares for number, found in share.items()}
        assert [merged[number] for number in range(len(texts))] == whole


def test_the_lines_before_a_faulty_one_are_put_together(tmp_path: Path) -> None:
    job = Job(None, [], None, None, 2, tmp_path, 0, False)
    (tmp_path / "blocks").write_text('[0, ["a", "b"]]\n[2, ["c", "d", "bad"]]\n')
    (tmp_path / "part-0").write_text('[{"1": "B\\n"}, {}]\n[{"0": "C\\n"}, {"cut": [0]}]\n')
    # This process has not heard of a fault that the other one found in the second block.
    (tmp_path / "part-1").write_text(
        '[{"0": "A\\n"}, {"speechless": [0]}]\n[{"1": "D\\n", "2": "E\\n"}, {"cut": [1, 2]}]\n'
    )
    for fault, written, cut in (
        (Fault(0, 0, "ConfigError", "a"), "", []),
        (Fault(1, 0, "ConfigError", "a"), "A\nB\n", []),
        (Fault(1, 1, "ConfigError", "a"), "A\nB\nC\n", [3]),
        (Fault(1, 2, "ConfigError", "a"), "A\nB\nC\nD\n", [3, 4]),
        (None, "A\nB\nC\nD\nE\n", [3, 4, 5]),
    ):
        remarks = Remarks("text")
        with Output(tmp_path / "out") as output:
            merge(job, output, remarks, 2, fault)
        assert (tmp_path / "out").read_text() == written
        assert remarks.first == {"speechless": [1] if written else [], "cut": cut}
    # One that leaves the block incomplete comes before one that does not.
    assert min(Fault(1, 2, "CorpusError", "a"), Fault(1, 0, "ConfigError", "b")).before == 0


def test_blocks_begin_with_another_process_each() -> None:
    """Else the first ones would do all the work where a block is a single batch, as on a GPU."""
    asked = []

    def of(*arguments: object) -> Shown:
        asked.append(arguments[-1])
        return Shown({}, {}, 1, None)

    work = SimpleNamespace(of=of)
    predictor = Predictor(SimpleNamespace(work=work), SimpleNamespace())
    predictor.loaded, predictor.part, predictor.share = (None, None), io.StringIO(), Share(1, 3, 99)
    assert all(predictor.predict_step((number, 0, ["a"])) for number in range(4))
    assert asked == [Share(rank, 3, 99) for rank in (1, 2, 0, 1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices") / "model"
    one = packaged()
    package.save(folder, one.model, one.source_vocabulary, one.target_vocabulary)
    return folder


def run(*arguments: object, stdin: bytes = b"", folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"TMPDIR": str(folder)} if folder else {})}
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, input=stdin, capture_output=True, check=False, env=environment)


def test_two_processes_print_what_one_prints(model: Path, tmp_path: Path) -> None:
    """With broken input at the end, which is told after the lines before it; nothing is left behind."""
    options = [model, *SHORT, "--n-best", "2", "--json", "--alignments", "--attention"]
    (tmp_path / "text").write_bytes(LINES + b"dog\xff\n")
    (tmp_path / "temporary").mkdir()
    one = run(*options, "-i", tmp_path / "text")
    two = run(*options, "-i", tmp_path / "text", "--devices", "2", folder=tmp_path / "temporary")
    assert one.stdout.count(b"\n") == 40
    assert two.stdout == one.stdout
    assert two.stderr == one.stderr
    assert two.stderr.endswith(b"with iconv\n")
    assert one.returncode == two.returncode == 2
    assert not list((tmp_path / "temporary").iterdir())


CASES = {
    "stdin": (["--n-best", "3"], LINES),
    "one line": ([], b"dog\n"),
    "blank lines": ([], b"\n \n\n"),
    "nothing": ([], b""),
    "long": ([], LINES * 40),
    "samples": (["--samples", "4", "--seed", "3"], LINES),
    "consensus": (["--samples", "4", "--mbr", "chrf"], LINES),
    "demands": (["--prefix", "a", "--constraint", "fox", "--max-length", "12"], LINES),
    "json lines": (["--json-lines"], b'{"source": "dog", "prefix": "a"}\n\n{"source": "fox"}\n' * 9),
    "nothing to say": (["--no-repeat-ngram", "1", "--max-length", "99", "--min-length", "99"], LINES),
    "a broken line": (["--json-lines"], b'{"source": "dog"}\n' * 1290 + b'{"source": 1}\n'),
    "an impossible demand": (["--constraint", "the quick brown fox"], b"\n" * 1290 + b"dog\n" * 20),
    "a forbidden token": (["--forbid", "nonsense"], LINES),
}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "text"), CASES.values(), ids=CASES)
def test_every_option_goes_with_it(options: list[str], text: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(text)  # A file is always ready, so the blocks are whole.
    if "--samples" not in options:
        options = [*SHORT, *options]
    one = run(model, *options, "-i", tmp_path / "text")
    two = run(model, *options, "--devices", "2", stdin=text)
    assert two.stderr == one.stderr.replace(str(tmp_path / "text").encode(), b"standard input")
    assert (two.returncode, two.stdout) == (one.returncode, one.stdout)


def children_of(process: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks ps in Linux's way")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting"),
        (signal.SIGINT, "translating"),
        (signal.SIGTERM, "translating"),
        (signal.SIGHUP, "translating"),
        (signal.SIGINT, "dividing"),
        (signal.SIGTERM, "dividing"),
        (signal.SIGKILL, "translating"),
    ],
)
def test_no_process_and_no_file_is_left_behind(
    number: signal.Signals, moment: str, model: Path, tmp_path: Path
) -> None:
    words = [*COMMAND, str(model), "--devices", "2", "--max-length", "200", "--min-length", "200"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def hear() -> None:  # also where pytest itself was started by nohup, or in the background
        if number != signal.SIGKILL:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, env=environment, preexec_fn=hear) as process:
        process.stdin.write(LINES * 500)
        process.stdin.close()
        while moment == "dividing" and not list(tmp_path.glob("*/blocks")):
            time.sleep(0.001)
        # Python's tracker of resources is the third.
        while moment != "dividing" and len(children_of(process.pid)) < 3:
            time.sleep(0.1)
        while moment == "translating" and not list(tmp_path.glob("*/part-1")):
            time.sleep(0.1)
        children = children_of(process.pid)
        process.send_signal(number)
        assert process.wait(60) == -number
        for _ in range(100):
            if not any(Path(f"/proc/{child}").exists() for child in children):
                break
            time.sleep(0.1)
        assert not any(Path(f"/proc/{child}").exists() for child in children)
        assert process.stderr.read() == b""
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("seq2seq-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "0"], "devices must be at least 1, got 0; leave it out"),
        (["--devices", "2", "--device", "cuda:1"], "--devices chooses among cpu and gpu, got --device cuda:1"),
        (["--devices", "99", "--device", "gpu"], "devices must be at most the GPUs of this machine, "),
    ],
)
def test_what_cannot_be_divided_is_one_line(options: list[str], message: str, model: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        app.run(["translate", str(model), *options])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_model_whose_save_was_killed_is_divided_too(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "model" / ".saved"
    shutil.copytree(model, saved)
    (tmp_path / "in").write_bytes(LINES)
    found = []
    for folder, devices in ((model, "1"), (saved.parent, "2")):
        command = [*COMMAND, folder, *SHORT, "-i", tmp_path / "in", "--devices", devices]
        found.append(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found[0] == found[1]


def test_a_model_that_is_not_there_is_told_before_the_input_is_read(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        app.run(["translate", str(tmp_path / "nowhere"), "--devices", "2"])
    assert "nowhere: is not a model folder" in capsys.readouterr().err
