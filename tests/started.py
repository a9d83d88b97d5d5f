"""Scripts as a user starts them, in processes of their own that begin with everything imported."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
# Each process is forked from one that has imported these and computed nothing; importing takes longer than most tests.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["seq2seq.training", "seq2seq.translator", "seq2seq.metrics", "seq2seq.cli.app", "torch.utils.tensorboard"]
)


def run(script: str, *arguments: object, cwd: Path, **environment: str) -> CompletedProcess[str]:
    """`python script arguments` in the folder `cwd`; `script` is named from the top of the project."""
    words = [str(ROOT / script), *map(str, arguments)]
    with TemporaryDirectory() as folder:
        outputs = [Path(folder) / "stdout", Path(folder) / "stderr"]
        child = PROCESSES.Process(target=_main, args=(words, cwd, outputs, {"COLUMNS": "120", **environment}))
        child.start()
        try:
            child.join()
        finally:
            child.kill()
        assert child.exitcode is not None
        return CompletedProcess(words, child.exitcode, *(path.read_text(encoding="utf-8") for path in outputs))


def _main(words: list[str], cwd: Path, outputs: list[Path], environment: dict[str, str]) -> None:
    for stream, path in zip((sys.stdout, sys.stderr), outputs, strict=True):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")
