"""The command line, as a user's shell sees it: bytes in, bytes out, one line for a mistake."""

import bz2
import fcntl
import gzip
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch
from configurations import SMALL

import seq2seq
from seq2seq import package
from seq2seq.cli import app, lines, main
from seq2seq.cli.options import SearchOptions
from seq2seq.config import SearchConfig
from seq2seq.errors import CorpusError
from seq2seq.model import Seq2Seq
from seq2seq.translator import Request, Translator
from seq2seq.vocabulary import Vocabulary

COMMAND = [sys.executable, "-m", "seq2seq"]
SHORT = ["--max-length", "6", "--beam-size", "2"]
SEARCH = SearchConfig(beam_size=2, max_length=6)


@dataclass(frozen=True)
class Ran:
    code: int
    out: bytes
    err: bytes


Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "model"
    vocabulary = Vocabulary.train(["the quick brown fox jumps over a lazy dog"], 40, kind="char")
    torch.manual_seed(5)
    sizes = {"source_vocabulary_size": len(vocabulary), "target_vocabulary_size": len(vocabulary)}
    package.save(
        folder,
        Seq2Seq(SMALL.model_copy(update=sizes)),
        vocabulary,
        vocabulary,
        languages=("fox", "dog"),
        training={"validation": {"loss": 1.5}},
    )
    return folder


@pytest.fixture
def cli(capfdbinary, tmp_path: Path) -> Cli:
    """Runs a command line in this process, with its own standard input."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        (tmp_path / "stdin").write_bytes(stdin)
        kept = os.dup(0)
        with (tmp_path / "stdin").open("rb") as file:
            os.dup2(file.fileno(), 0)
        try:
            with pytest.raises(SystemExit) as ended:
                app.run([str(argument) for argument in arguments])
        finally:
            os.dup2(kept, 0)
            os.close(kept)
        captured = capfdbinary.readouterr()
        return Ran(ended.value.code or 0, captured.out, captured.err)

    return run


def fails(ran: Ran, *parts: str) -> None:
    """A user's mistake: one line that says all of these, and exit code 2."""
    assert ran.code == 2
    message = ran.err.decode()
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (b"", []),
        (b"a fox", ["a fox"]),
        (b"a fox\n", ["a fox"]),
        (b"a fox\n\n  \n\t\ndog\n\n", ["a fox", "", "  ", "\t", "dog", ""]),
        (b"a fox\r\ndog\r\n\r\n", ["a fox", "dog", ""]),
        (b"\xef\xbb\xbfa fox\ndog", ["a fox", "dog"]),
        ("a\u2028b\x0cc\x85d\re\n</s> <S> ▁\n".encode(), ["a\u2028b\x0cc\x85d\re", "</s> <S> ▁"]),
        (b"\n", [""]),
    ],
)
def test_translations_are_aligned_with_any_lines(cli: Cli, model: Path, text: bytes, sources: list[str]) -> None:
    ran = cli("translate", model, *SHORT, stdin=text)
    assert (ran.code, ran.err) == (0, b"")
    expected = Translator.load(model).translate(sources, SEARCH)
    assert ran.out.decode() == "".join(f"{line}\n" for line in expected)


def test_files_are_read_and_written_too(cli: Cli, model: Path, tmp_path: Path) -> None:
    text = b"a fox\n\ndog"
    expected = cli("translate", model, *SHORT, stdin=text).out
    (tmp_path / "in").write_bytes(text)
    (tmp_path / "in.gz").write_bytes(gzip.compress(text))
    for name in ("in", "in.gz"):
        ran = cli("translate", model, *SHORT, "--input", tmp_path / name, "--output", tmp_path / "out")
        assert (ran.code, ran.out, ran.err) == (0, b"", b"")
        assert (tmp_path / "out").read_bytes() == expected


def test_n_best_and_json_show_scores(cli: Cli, model: Path) -> None:
    text = b"a fox\n\ndog\n"
    truth = Translator.load(model).generate(["a fox", "", "dog"], SEARCH.model_copy(update={"n_best": 2}))
    options = [model, *SHORT, "--n-best", "2"]
    rows = [row.split("\t") for row in cli("translate", *options, stdin=text).out.decode().splitlines()]
    expected = [[str(n), f"{one.score:.4f}", one.text] for n, found in enumerate(truth, 1) for one in found]
    assert rows == expected
    assert len(rows) == 5
    objects = [json.loads(row) for row in cli("translate", *options, "--json", stdin=text).out.splitlines()]
    assert [row["source"] for row in objects] == ["a fox", "", "dog"]
    assert objects[0]["translations"][1] == {
        "text": truth[0][1].text,
        "score": truth[0][1].score,
        "tokens": truth[0][1].tokens,
        "token_scores": truth[0][1].token_scores,
        "at_limit": truth[0][1].at_limit,
    }


def test_a_line_of_ten_thousand_tokens_is_translated(cli: Cli, model: Path) -> None:
    ran = cli("translate", model, *SHORT, stdin=b"dog\n" + b"fox " * 2500 + b"\ndog\n")
    rows = ran.out.splitlines()
    assert len(rows) == 3
    assert rows[0] == rows[2]


def test_bad_input_is_named_after_the_lines_before_it(cli: Cli, model: Path, tmp_path: Path) -> None:
    ran = cli("translate", model, *SHORT, stdin=b"dog\na\xff\xfe\n")
    fails(ran, "standard input:2: is not UTF-8 (0xff at byte 2 of the line)", "iconv")
    assert ran.out == cli("translate", model, *SHORT, stdin=b"dog\n").out
    fails(cli("translate", model, stdin=b"a\0"), "standard input:1: holds NUL")
    fails(cli("translate", model, "--input", tmp_path / "none"), "none: cannot be read (No such file or directory)")
    fails(cli("translate", model, "--input", tmp_path), "cannot be read (Is a directory)")
    (tmp_path / "cut.gz").write_bytes(b"\x1f\x8b\x08\x00")
    fails(cli("translate", model, "--input", tmp_path / "cut.gz"), "cut.gz")


def test_packed_lines_are_read_as_plain_ones(cli: Cli, model: Path, tmp_path: Path) -> None:
    plain, packed, archive = tmp_path / "in", tmp_path / "in.gz", tmp_path / "in.zip"
    for content in (b"", b"dog\n\na fox\r\n", b"dog\n" * 3 + b"\xff\n", b"dog\na\0\ndog\n"):
        plain.write_bytes(content)
        packed.write_bytes(gzip.compress(content))
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("one.txt", content)
            file.writestr("other.txt", "other")
        expected = cli("translate", model, *SHORT, "-i", plain)
        for path in (packed, archive / "one.txt"):
            ran = cli("translate", model, *SHORT, "-i", path)
            assert (ran.code, ran.out) == (expected.code, expected.out)
            assert ran.err.decode() == expected.err.decode().replace(str(plain), str(path))
    cut = gzip.compress(b"dog\n" * 9)[:-4]
    packed.write_bytes(cut)
    ran = cli("translate", model, *SHORT, "-i", packed)
    fails(ran, "in.gz: is truncated")
    assert ran.out.count(b"\n") == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("é".encode("utf-16"), "is UTF-16, must be UTF-8"),
        (gzip.compress(b"dog", mtime=0), "is packed data, must be text"),
        (bz2.compress(b"dog"), "is packed by bzip2, must be text; unpack it with bunzip2"),
        (b"\x28\xb5\x2f\xfd\x04\x00dog", "is packed by zstd, must be text; unpack it with unzstd"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(
    cli: Cli, model: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    fails(cli("translate", model, stdin=content), f"standard input:1: {message}")
    (tmp_path / "lines").write_bytes(content)
    fails(cli("score", tmp_path / "lines", "-r", tmp_path / "lines"), f"lines:1: {message}")
    # Behind the first line these bytes mean nothing of the kind.
    (tmp_path / "lines").write_bytes(b"dog\n" + content)
    fails(cli("score", tmp_path / "lines", "-r", tmp_path / "lines"), "lines:2: is not UTF-8 (0x")


def test_bad_output_is_named(cli: Cli, model: Path, tmp_path: Path) -> None:
    fails(cli("translate", model, "-o", tmp_path / "no" / "out", stdin=b"a"), "cannot be written (No such file")
    fails(
        cli("translate", model, "-o", "/dev/full", *SHORT, stdin=b"dog"), "/dev/full: cannot be written (No space left"
    )
    (tmp_path / "in").write_text("dog")
    fails(cli("translate", model, "-i", tmp_path / "in", "-o", tmp_path / "in"), "another file than what is read")
    assert (tmp_path / "in").read_text() == "dog"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in", "dog\n")
    for read in (tmp_path / "a.zip", tmp_path / "a.zip" / "in"):
        fails(cli("translate", model, "-i", read, "-o", tmp_path / "a.zip"), "another file than what is read")
    assert zipfile.is_zipfile(tmp_path / "a.zip")
    (tmp_path / "stdin").write_text("dog")
    with (tmp_path / "stdin").open() as file:
        command = [sys.executable, "-m", "seq2seq", "translate", model, "-o", tmp_path / "stdin"]
        ran = subprocess.run(command, stdin=file, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "another file than what is read" in ran.stderr
    assert (tmp_path / "stdin").read_text() == "dog"
    for read in (["-i", tmp_path / "stdin"], []):
        with (tmp_path / "stdin").open() as file, (tmp_path / "stdin").open("a") as end:
            command = [sys.executable, "-m", "seq2seq", "translate", model, *read]
            ran = subprocess.run(command, stdin=file, stdout=end, stderr=subprocess.PIPE, text=True)
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert ran.stderr.startswith("error: standard output must be another file than what is read")
        assert (tmp_path / "stdin").read_text() == "dog"


def test_pipes_that_do_not_wait_are_waited_for(model: Path) -> None:
    read, write = os.pipe(), os.pipe()
    for end in (read[0], write[1]):
        os.set_blocking(end, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # on Linux
        fcntl.fcntl(write[1], fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "seq2seq", "translate", model, "--max-length", "3", "--beam-size", "1"]
    with (
        subprocess.Popen(command, stdin=read[0], stdout=write[1], stderr=subprocess.PIPE) as process,
        open(write[0], "rb") as output,
    ):
        os.close(read[0])
        os.close(write[1])
        with open(read[1], "wb") as texts:
            texts.write(b"dog\n")
            texts.flush()
            translated = [output.readline()]
            texts.write(b"dog\n" * 6_000)  # It waits for these, and has more to say than its pipe holds.
        time.sleep(1)
        translated += output.readlines()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert len(translated) == 6_001


def test_more_hypotheses_than_any_memory_holds_are_refused_before_they_are_made(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seq2seq.translator.translator.find_hypotheses", lambda *_: pytest.fail("a search began"))
    for name in ("samples", "beam-size"):
        ran = cli("translate", model, f"--{name}", "1000000000", stdin=b"dog\n")
        fails(ran, f"out of memory in translating with {name.replace('-', '_')}=1000000000; lower --{name}")


@pytest.mark.parametrize(
    "mistake", [["-i", "nowhere"], ["--mbr", "chrf"], ["--prefix", "Ω"], ["--forbid", "nosuch"], ["--shortlist", "3"]]
)
@pytest.mark.parametrize("devices", [[], pytest.param(["--devices", "2"], marks=pytest.mark.slow)])
def test_a_failure_leaves_the_output_of_before(cli: Cli, model: Path, tmp_path: Path, mistake, devices) -> None:
    (tmp_path / "out").write_text("kept")
    ran = cli("translate", model, *SHORT, "-o", tmp_path / "out", *mistake, *devices, stdin=b"dog\n")
    fails(ran)
    assert (tmp_path / "out").read_text() == "kept"
    fails(cli("translate", model, *SHORT, "-o", tmp_path / "new", *mistake, *devices, stdin=b"dog\n"))
    assert not (tmp_path / "new").exists(), "nothing was written"


def test_the_output_of_before_is_replaced_by_less_or_nothing(cli: Cli, model: Path, tmp_path: Path) -> None:
    for text in (b"dog\n", b""):
        (tmp_path / "out").write_text("a long line that was here before, longer than any translation\n" * 9)
        ran = cli("translate", model, *SHORT, "-o", tmp_path / "out", stdin=text)
        assert (ran.code, (tmp_path / "out").read_bytes()) == (0, cli("translate", model, *SHORT, stdin=text).out)


def test_what_cannot_be_done_is_told_of_empty_input_too(cli: Cli, model: Path) -> None:
    fails(cli("translate", model, "--mbr", "foo", "--n-best", "2"), "utility must be one of chrf, bleu, got 'foo'")


def test_bad_models_are_named(cli: Cli, model: Path, tmp_path: Path) -> None:
    for command in (["translate"], ["info"]):
        fails(cli(*command, tmp_path / "none"), "none: is not a model folder")
        fails(cli(*command, tmp_path), "is not a model folder, it has no config.json")
    for name in ("config.json", "model.safetensors", "source.model"):
        folder = tmp_path / name
        folder.mkdir()
        for part in model.iterdir():
            content = part.read_bytes()
            (folder / part.name).write_bytes(content[: len(content) // 2] if part.name == name else content)
        fails(cli("translate", folder, stdin=b"a"), name, "copy")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "marian"}')
    fails(cli("info", foreign), "was not written by seq2seq")


def test_bad_options_are_named(cli: Cli, model: Path) -> None:
    fails(cli("translate"), "Missing argument", "see seq2seq translate --help")
    fails(cli("translate", "model", "--beam-size"), "requires an argument", "see seq2seq translate --help")
    fails(cli("--beam-size"), "No such option", "see seq2seq --help")
    fails(cli("translat"), "No such command", "see seq2seq --help")
    fails(cli("dance"), "No such command 'dance'")
    fails(cli("translate", model, "--beam-size", "many"), "--beam-size", "'many'")
    fails(cli("translate", model, "--beam-size", "0"), "beam_size", "got 0")
    fails(cli("translate", model, "--n-best", "9"), "n_best must be at most beam_size, got 9 and 5")
    fails(cli("translate", model, "--length-penalty", "tall"), "length_penalty", "'tall'")
    fails(
        cli("translate", model, "--max-length-ratio", "-1"), "max_length_ratio must be at least 0, got -1.0; 0 is for"
    )
    fails(cli("translate", model, "--device", "toaster"), "device must be one that this machine has, got 'toaster'")
    fails(cli("translate", model, "--beem-size", "3"), "--beem-size")


def test_every_field_of_the_search_is_an_option_with_its_default() -> None:
    assert {field.name for field in fields(SearchOptions)} == set(SearchConfig.model_fields)
    assert SearchOptions().config() == SearchConfig()
    search = SearchOptions(max_length_ratio=0, samples=3, temperature=0.5, top_k=4)
    assert search.config() == SearchConfig(max_length_ratio=None, samples=3, temperature=0.5, top_k=4)


def test_options_reach_the_search(cli: Cli, model: Path) -> None:
    text = b"a fox\n\ndog\n"
    translator = Translator.load(model)
    sources = ["a fox", "", "dog"]
    samples = ["--samples", "3", "--seed", "7", "--temperature", "0.7", "--top-k", "9", "--max-length", "6"]
    config = SearchConfig(samples=3, seed=7, temperature=0.7, top_k=9, max_length=6)
    rows = [row.split("\t") for row in cli("translate", model, *samples, stdin=text).out.decode().splitlines()]
    drawn = translator.generate(sources, config)
    assert rows == [[str(n), f"{one.score:.4f}", one.text] for n, found in enumerate(drawn, 1) for one in found]
    chosen = cli("translate", model, *samples, "--mbr", "bleu", stdin=text).out.decode().splitlines()
    assert chosen == translator.translate(sources, config, utility="bleu")
    without = SEARCH.model_copy(update={"forbidden_tokens": (translator.find_token("o"),)})
    ran = cli("translate", model, *SHORT, "--forbid", "o", stdin=text)
    assert ran.out.decode().splitlines() == translator.translate(sources, without)
    assert "o" not in ran.out.decode()
    rounded = Translator.load(model, precision="bfloat16").translate(sources, SEARCH)
    ran = cli("translate", model, *SHORT, "--precision", "bfloat16", "--threads", "1", stdin=text)
    assert ran.out.decode().splitlines() == rounded


def test_several_models_are_an_ensemble(cli: Cli, model: Path, tmp_path: Path) -> None:
    loaded = package.load(model)
    torch.manual_seed(6)
    package.save(tmp_path, Seq2Seq(loaded.config), loaded.source_vocabulary, loaded.target_vocabulary)
    ran = cli("translate", model, tmp_path, *SHORT, "--mean", "log_probabilities", stdin=b"a fox\ndog\n")
    together = Translator.load([model, tmp_path], mean="log_probabilities")
    assert ran.out.decode().splitlines() == together.translate(["a fox", "dog"], SEARCH)
    vocabulary = Vocabulary.train(["another text altogether"], 16, kind="char")
    sizes = {"source_vocabulary_size": len(vocabulary), "target_vocabulary_size": len(vocabulary)}
    other = tmp_path / "other"
    package.save(other, Seq2Seq(SMALL.model_copy(update=sizes)), vocabulary, vocabulary)
    fails(cli("translate", model, other, stdin=b"a"), "must have the same target vocabulary, got one of 31 tokens")
    fails(cli("translate", model, "--mean", "log_probabilities"), "mean is of several models")


def test_what_is_asked_for_is_shown(cli: Cli, model: Path) -> None:
    text, sources = b"a fox\n\nlazy dog\n", ["a fox", "", "lazy dog"]
    truth = Translator.load(model).generate(sources, SEARCH, alignments=True, attention=True)
    rows = cli("translate", model, *SHORT, "--alignments", stdin=text).out.decode().splitlines()
    assert rows == [f"{found[0].text}\t{found[0].pharaoh}" for found in truth]
    assert rows[1] == "\t"
    options = ["--json", "--alignments", "--attention"]
    ran = cli("translate", model, *SHORT, *options, stdin=text)
    for row, found in zip(map(json.loads, ran.out.splitlines()), truth, strict=True):
        (one,) = row["translations"]
        assert list(map(tuple, one["alignment"])) == (found[0].alignment or [])
        assert one["attention"] == (found[0].attention or [])
        assert one["source_tokens"] == (found[0].source_tokens or [])
    ran = cli("translate", model, *SHORT, "--json", "--mbr", "chrf", "--n-best", "2", stdin=text)
    utilities = [[one["utility"] for one in json.loads(row)["translations"]] for row in ran.out.splitlines()]
    assert all(row == sorted(row, reverse=True) for row in utilities)
    assert len(utilities[0]) == 2


def test_prefixes_are_given_for_all_lines_or_by_each(cli: Cli, model: Path) -> None:
    translator = Translator.load(model)
    ran = cli("translate", model, *SHORT, "--prefix", "the ", stdin=b"a fox\n\ndog\n")
    expected = translator.translate([Request("a fox", "the "), "", Request("dog", "the ")], SEARCH)
    assert ran.out.decode().splitlines() == expected
    assert expected[0].startswith("the")
    ran = cli("translate", model, *SHORT, "--constraint", "a", "--constraint", "fox", stdin=b"dog\n")
    assert ran.out.decode() == translator.translate(Request("dog", constraints=("a", "fox")), SEARCH) + "\n"
    lines = '{"source": "a fox", "prefix": "qu"}\n\n{"source": "d\\u006fg", "constraints": ["a"]}\n'
    ran = cli("translate", model, *SHORT, "--json-lines", stdin=lines.encode())
    assert ran.out.decode().splitlines() == translator.translate(
        [Request("a fox", "qu"), "", Request("dog", "", ("a",))], SEARCH
    )
    fails(cli("translate", model, "--prefix", "Ω", stdin=b"a"), "a prefix must be text", "'Ω'")
    fails(cli("translate", model, "--prefix", "a", "--json-lines"), "leave one of them out")
    dog = cli("translate", model, *SHORT, stdin=b"dog\n").out
    for bad, message in [
        ("a fox", "must be a JSON object, got 'a fox'"),
        ("[1]", 'must be a JSON object with a "source"'),
        ('{"prefix": "a"}', 'must be a JSON object with a "source"'),
        ('{"source": 1}', "'source' must be a text, got 1"),
        ('{"source": "a", "prefx": "a"}', "got 'prefx'; leave it out"),
        ('{"source": "a", "constraints": "a"}', "'constraints' must be a list of texts, got \"a\""),
        ('{"source": "a", "constraints": [1]}', "'constraints' must be a list of texts, got [1]"),
        ("[" * 9999, "must be a JSON object"),
        ('{"source": "a\\u0000"}', "'source' holds NUL, so it is no text"),
        ('{"source": "a", "prefix": "\\ud800"}', "'prefix' holds half of a surrogate pair"),
        ('{"source": "a", "constraints": ["a", "\\udfff"]}', "'constraints' holds half of a surrogate pair"),
        ('{"source": "a", "prefix": "Ω"}', "a prefix must be text"),
        ('{"source": "a", "constraints": ["do", "dog"]}', "got 'do', which begins a longer one in 'dog'"),
    ]:
        ran = cli("translate", model, *SHORT, "--json-lines", stdin=f'{{"source": "dog"}}\n{bad}\n'.encode())
        fails(ran, "standard input:2: ", message)
        assert ran.out == dog, "what stands before it is translated"


def test_a_demand_that_the_search_cannot_meet_names_its_line(cli: Cli, model: Path) -> None:
    """Whether that is seen before the search or by it; what stands before the line is translated."""
    phrase = '{"source": "dog", "constraints": ["a"]}'
    for demand, options, message in [
        (phrase, ["--beam-size", "4", "--beam-groups", "2"], "constraints and groups both divide the beam"),
        (phrase, ["--samples", "2"], "constraints need a beam"),
        (phrase, ["--beam-size", "2", "--no-repeat-ngram", "2"], "what no_repeat_ngram forbids"),
        (phrase, ["--beam-size", "2", "--forbid", "a"], "a constraint must have no forbidden token"),
        # A prefix of one token is always there; after it the only token left would be a second "d".
        (
            '{"source": "dog", "prefix": "dd"}',
            ["--beam-size", "2", "--no-repeat-ngram", "1"],
            "needs room in the search, got prefix 'dd' and constraints []",
        ),
    ]:
        options = ["--max-length", "6", *options, "--json-lines"]
        first = '{"source": "a fox jumps over"}\n'
        ran = cli("translate", model, *options, stdin=f"{first}{demand}\n{first}".encode())
        fails(ran, "standard input:2: ", message)
        assert ran.out == cli("translate", model, *options, stdin=first.encode()).out != b""


def test_translations_that_the_usual_limit_ends_are_named(cli: Cli, model: Path, tmp_path: Path) -> None:
    """Not where a limit was asked for. The model is untrained and seldom ends by itself."""
    ran = cli("translate", model, "--beam-size", "1", "--json", stdin=b"dog\n\nfox jumps\n")
    rows = [json.loads(row)["translations"][0] for row in ran.out.splitlines()]
    assert [row["at_limit"] for row in rows] == [True, False, True]
    assert [len(row["tokens"]) for row in rows] == [22, 0, 40], "3 times the 4 and 10 of the source, and 10 more"
    told = "warning: {}: the limits of length may have cut the translations of lines 1, 3; raise --max-length-ratio"
    assert ran.err.decode().startswith(told.format("standard input"))
    (tmp_path / "text").write_text("dog\n\nfox jumps\n")
    ran = cli("evaluate", model, "--beam-size", "1", "-s", tmp_path / "text", "-r", tmp_path / "text")
    assert ran.err.decode().startswith(told.format(tmp_path / "text"))
    assert cli("translate", model, "--beam-size", "1", "--max-length-ratio", "2", stdin=b"dog\n").err == b""
    rules = ["--no-repeat-ngram", "1", "--min-length", "200"]
    ran = cli("evaluate", model, *rules, "-s", tmp_path / "text", "-r", tmp_path / "text")
    assert ran.err.decode().startswith(f"warning: {tmp_path / 'text'}: nothing can be said of lines 1, 3 under")


def test_a_model_learns_its_lexicon_and_translates_with_it(cli: Cli, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    fails(cli("translate", folder, "--shortlist", "2", stdin=b"dog\n"), "got shortlist=2 and none", "seq2seq lexicon")
    (tmp_path / "pairs.tsv").write_text("a fox\tthe dog\nlazy\tquick\n")
    ran = cli("lexicon", folder, tmp_path / "pairs.tsv", "--frequent", "3")
    assert (ran.code, ran.err) == (0, b"")
    assert b"31 source tokens" in ran.out
    assert b"--shortlist" in ran.out
    assert b"tokens on every list" in cli("info", folder).out
    (folder / "lexicon.safetensors").rename(tmp_path / "elsewhere")
    assert b"lexicon.safetensors: is missing" in cli("info", folder).out
    (tmp_path / "elsewhere").rename(folder / "lexicon.safetensors")
    expected = Translator.load(folder).translate(["a fox", "", "lazy"], SEARCH.model_copy(update={"shortlist": 2}))
    ran = cli("translate", folder, *SHORT, "--shortlist", "2", stdin=b"a fox\n\nlazy\n")
    assert ran.out.decode().splitlines() == expected
    # Neither "b" nor "j" was ever learnt from.
    assert not {"b", "j"} & set("".join(expected))
    assert (
        cli("translate", folder, *SHORT, stdin=b"a fox\n").out == cli("translate", model, *SHORT, stdin=b"a fox\n").out
    )
    fails(cli("lexicon", folder, tmp_path / "none.tsv"), "none.tsv")
    fails(cli("lexicon", folder, tmp_path / "pairs.tsv", "--frequent", "-1"), "frequent must be at least 0, got -1")
    fails(cli("lexicon", tmp_path, tmp_path / "pairs.tsv"), "is not a model folder")
    fails(cli("lexicon", folder, "a.de", "a.en", "--columns", "2", "1"), "columns are those of a TSV, got 2 1")


def test_options_that_do_not_go_together_are_refused(cli: Cli, model: Path) -> None:
    fails(cli("translate", model, "--samples", "2", "--n-best", "3"), "got", "samples=2")
    fails(cli("translate", model, "--temperature", "2"), "temperature is for sampling")
    fails(cli("translate", model, "--mbr", "chrf", stdin=b"a"), "chooses among several translations")
    fails(cli("translate", model, "--attention"), "add --json")
    fails(cli("translate", model, "--replace-unk", stdin=b"a"), "of whole words")
    fails(cli("translate", model, "--forbid", "nope"), "got 'nope'")
    fails(cli("translate", model, "--shortlist", "2", "--samples", "2"), "drawn from the whole vocabulary")
    fails(cli("translate", model, "--threads", "0"), "threads must be at least 1, got 0")
    fails(
        cli("translate", model, "--threads", "99999"), "threads must be at most the cores of", "got 99999", "leave it"
    )
    fails(cli("translate", model, "--threads", "99999", "--devices", "2"), "threads must be at most the cores of")
    fails(cli("translate", model, "--samples", "2", "--beam-size", "3"), "got beam_size=3 and samples=2")
    fails(cli("translate", model, "--precision", "float8"), "precision must be one of float32, bfloat16")
    fails(cli("evaluate", model, "-s", "x", "-r", "x", "--samples", "2"), "choose one of them with --mbr")
    fails(cli("evaluate", model, "-s", "x", "-r", "x", "--n-best", "3"), "got n_best=3; choose one of them with --mbr")


def test_pairs_are_scored(cli: Cli, model: Path, tmp_path: Path) -> None:
    sources, targets = ["a fox", "", "lazy dog"], ["dog", "the fox", ""]
    source, target = tmp_path / "source", tmp_path / "target.gz"
    source.write_text("".join(f"{line}\n" for line in sources))
    target.write_bytes(gzip.compress("".join(f"{line}\n" for line in targets).encode()))
    truth = Translator.load(model).score(sources, targets)
    ran = cli("score-pairs", model, "-s", source, "-t", target)
    assert ran.out.decode().splitlines() == [f"{one.score:.4f}\t{one.perplexity:.4f}" for one in truth]
    tokens = sum(len(one.token_scores) for one in truth)
    total = sum(one.score for one in truth)
    perplexity = math.exp(-total / tokens)
    summary = f"3 pairs, {tokens} tokens: log-probability {total:.2f}, perplexity {perplexity:.4f}\n"
    assert ran.err.decode() == summary
    ran = cli("score-pairs", model, "-s", source, "-t", target, "--json", "-o", tmp_path / "out")
    rows = [json.loads(row) for row in (tmp_path / "out").read_text().splitlines()]
    assert [row["token_scores"] for row in rows] == [one.token_scores for one in truth]
    assert [row["target"] for row in rows] == targets
    assert ran.out == b""
    source.write_text("a\nb\n")
    fails(cli("score-pairs", model, "-s", source, "-t", target), "as many lines, got 2 in", "more in")
    fails(cli("score-pairs", model, "-s", tmp_path / "none", "-t", target), "none")


@pytest.fixture
def test_set(tmp_path: Path) -> tuple[Path, Path, Path]:
    sources = ["a fox", "the lazy dog jumps over it", "", "quick brown", "over a fox"] * 6
    references = [["the dog jumps", "x" * (n % 3), "", f"a fox {n}", "over a fox"] for n in range(6)]
    paths = tmp_path / "source", tmp_path / "first", tmp_path / "second"
    paths[0].write_text("".join(f"{line}\n" for line in sources))
    paths[1].write_text("".join(f"{line}\n" for five in references for line in five))
    paths[2].write_text("".join(f"{line.upper()}\r\n" for line in sources))
    return paths


def sacrebleu(*arguments: str | Path) -> list[str]:
    command = [sys.executable, "-m", "sacrebleu", *map(str, arguments), "--format", "text"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Behind the score stand its parts.
    return [" ".join(line.split()[:3]) for line in printed.splitlines()]


def test_evaluate_and_score_print_what_the_sacrebleu_command_prints(cli: Cli, model: Path, test_set, tmp_path) -> None:
    source, first, second = test_set
    output = tmp_path / "translations"
    options = ["-r", first, "-r", second, "-m", "bleu", "-m", "chrf", "-m", "ter"]
    ran = cli("evaluate", model, "-s", source, *options, "-o", output, *SHORT)
    assert (ran.code, ran.err) == (0, b"")
    theirs = sacrebleu(first, second, "-i", output, "-m", "bleu", "chrf", "ter")
    assert ran.out.decode().splitlines() == theirs
    assert output.read_text() == cli("translate", model, *SHORT, "-i", source).out.decode()
    assert cli("score", output, *options).out == ran.out
    lower = cli("score", second, "-r", source, "--lowercase", "--tokenize", "char").out.decode().splitlines()
    assert lower == sacrebleu(source, "-i", second, "-lc", "--tokenize", "char")


def test_exact_matches_are_counted(cli: Cli, test_set) -> None:
    source, first, second = test_set
    assert cli("score", source, "-r", second, "-m", "exact").out.endswith(b" = 20.0\n")
    ran = cli("score", source, "-r", second, "-m", "exact", "--lowercase", "--json")
    (found,) = json.loads(ran.out)
    assert (found["name"], found["value"]) == ("EM", 100)
    assert "case:lc" in found["signature"]
    assert first.exists()


def test_two_systems_are_compared(cli: Cli, test_set) -> None:
    source, first, second = test_set
    fails(cli("score", first, "-r", second, "--samples", "50"), "--samples is for comparing two systems")
    rows = cli("score", first, second, "-r", second, "--samples", "50").out.decode().splitlines()
    assert len(rows) == 3
    assert rows[0].endswith(str(first))
    assert rows[1].startswith("BLEU|nrefs:1|bs:50|seed:12345|case:mixed")
    assert " = 100.0 (100.0 ± 0.0)" in rows[1]
    assert rows[2].startswith("p = 0.0")
    (found,) = json.loads(cli("score", first, second, "-r", source, "--json").out)
    assert {"baseline", "system", "p_value"} <= found.keys()
    both = json.loads(cli("score", first, second, "-r", source, "-m", "bleu", "-m", "chrf", "--json").out)
    assert [one["system"]["name"] for one in both] == ["BLEU", "chrF2"]


def test_what_cannot_be_scored_is_named(cli: Cli, model: Path, test_set, tmp_path: Path) -> None:
    source, first, _ = test_set
    (tmp_path / "short").write_text("a\nb\n")
    (tmp_path / "empty").write_text("")
    short, empty = tmp_path / "short", tmp_path / "empty"
    fails(cli("score", short, "-r", first), "must have as many lines, got 2 in", "30 in")
    fails(cli("evaluate", model, "-s", source, "-r", short), "must have as many lines, got 30 in", "2 in")
    fails(cli("score", empty, "-r", empty), "is empty")
    fails(cli("score", first, "-r", first, "-m", "meteor"), "metric must be one of", "'meteor'")
    fails(cli("score", first, "-r", first, "--tokenize", "moses"), "tokenize must be one of", "'moses'")
    fails(cli("score", first, "-r", first, "-m", "ter", "--tokenize", "13a"), "tokenize is an option of bleu")
    fails(cli("score", first, first, first, "-r", first), "one system or two, got 3")
    fails(cli("score", first), "--reference")


def test_info_tells_what_the_folder_holds(cli: Cli, model: Path) -> None:
    printed = cli("info", model).out.decode()
    for part in ("fox → dog", "seq2seq-lightning", "general", "training.validation.loss"):
        assert part in printed
    metadata = json.loads(cli("info", model, "--json").out)
    assert metadata["model"]["attention"] == "general"
    assert metadata["lexicon_fault"] is None
    assert f"{metadata['parameters']:,}" in printed


def test_a_path_that_cannot_be_looked_at_is_one_line(cli: Cli, model: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    fails(cli("translate", long, "--devices", "2", stdin=b"dog\n"), "File name too long")
    fails(cli("average", model, "--out", long), "File name too long")
    fails(cli("check-data", long, long), "cannot be read (File name too long)")
    fails(cli("lexicon", model, long, long), "cannot be read (File name too long)")


def test_lines_of_which_nothing_can_be_said_are_named(cli: Cli, model: Path) -> None:
    rules = ["--no-repeat-ngram", "1", "--min-length", "200"]
    ran = cli("translate", model, *rules, "--json", stdin=b"dog\n\nfox\n")
    assert (ran.code, ran.out.count(b"\n")) == (0, 3)
    (one,) = json.loads(ran.out.splitlines()[0], parse_constant=pytest.fail)["translations"]
    assert (one["text"], one["score"], one["token_scores"]) == ("", None, [None])
    warning = "warning: standard input: nothing can be said of {} under these rules; "
    assert ran.err.decode().startswith(warning.format("lines 1, 3"))
    assert ran.err.count(b"\n") == 1
    ran = cli("translate", model, *rules, "--beam-size", "1", stdin=b"dog\n")
    assert (ran.code, ran.out) == (0, b"\n")
    assert ran.err.decode().startswith(warning.format("line 1"))
    ran = cli("translate", model, *rules, "--beam-size", "1", stdin=b"dog\n" * 14)
    assert ran.err.decode().startswith(warning.format("lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 4 more"))


def test_too_little_memory_is_one_line(cli: Cli, model: Path, test_set, monkeypatch) -> None:
    source, first, second = test_set
    fails(cli("score", first, second, "-r", source, "--samples", "10000000000000"), "out of memory", "lower --samples")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800000000 bytes.")

    monkeypatch.setattr("seq2seq.translator.translator.find_hypotheses", fail)
    monkeypatch.setattr("seq2seq.translator.ensemble.Ensemble.log_probs", fail)
    fails(cli("translate", model, "--samples", "9", stdin=b"dog\n"), "out of memory", "samples=9", "lower --samples")
    fails(cli("translate", model, stdin=b"dog\n"), "out of memory", "beam_size=5", "lower --beam-size")
    fails(cli("evaluate", model, "-s", source, "-r", first), "out of memory", "beam_size=5", "lower --beam-size")
    ran = cli("score-pairs", model, "-s", source, "-t", first)
    fails(ran, "out of memory in scoring")


def test_the_version_is_told(cli: Cli) -> None:
    ran = cli("--version")
    assert (ran.code, ran.out.decode(), ran.err) == (0, f"seq2seq {seq2seq.__version__}\n", b"")


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = """
import sys
import threading
import time
import zipfile
from seq2seq.cli import main
sys.argv = ["seq2seq", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {"torch", "numpy", "lightning", "datasets", "sacrebleu", "sentencepiece", "safetensors"}
print("heavy:", *heavy & sys.modules.keys())
"""
    for arguments in (["--help"], ["translate", "--help"], ["score", "--help"]):
        command = [sys.executable, "-c", program, *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout.endswith("heavy:\n")
        assert "Usage: seq2seq" in run.stdout


def test_a_full_disk_is_one_line(test_set) -> None:
    source, *_ = test_set
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [*COMMAND, "score", source, "-r", source], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert run.returncode == 2
    assert run.stderr == b"error: standard output: cannot be written (No space left on device); choose another place\n"


def test_a_reader_that_goes_ends_it_quietly(model: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "translate", model, *SHORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.stdin.write(b"dog\n")
        process.stdin.close()
        assert process.wait(300) == 141
        assert process.stderr.read() == b""


RECIPE = """
from seq2seq.cli.running import run_recipe
def main(lines: int = 1):
    for _ in range(lines):
        print("x → y")
    open("done", "w").close()
run_recipe(main)
"""


@pytest.mark.parametrize("program", [["-m", "seq2seq", "--help"], ["-c", RECIPE], ["-c", RECIPE, "--lines", "9999"]])
def test_what_is_printed_ends_as_other_output_does(program: list[str], tmp_path: Path) -> None:
    words = [sys.executable, *program]
    with open("/dev/full", "wb") as full:
        run = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr == b"error: standard output: cannot be written (No space left on device); choose another place\n"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.close()
        assert process.wait(300) == 141
        assert process.stderr.read() == b""
    assert (tmp_path / "done").exists() == ("-c" in program), "the work is done all the same"


def test_a_recipe_prints_what_standard_output_cannot_spell(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin1"}
    words = [sys.executable, "-c", RECIPE]
    run = subprocess.run(words, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"x ? y\n", b"")


@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full"])
def test_no_error_is_written_into_the_output(to: str) -> None:
    words = ["sh", "-c", f'"$0" -m seq2seq info nowhere {to}', sys.executable]
    run = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    assert (run.returncode, run.stdout) == (2, b"")


def test_each_line_is_answered_at_once_and_control_c_ends_it_quietly(model: Path) -> None:
    def hear() -> None:  # also where pytest itself was started in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, "translate", model, *SHORT], **pipes, preexec_fn=hear) as process:
        answers = []
        for line in (b"dog\n", b"a fox\n", b"\n", b"dog\n"):
            process.stdin.write(line)
            process.stdin.flush()
            answers.append(process.stdout.readline())
        assert answers[0] == answers[3]
        assert answers[2] == b"\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert process.stderr.read() == b""


def test_an_ignored_control_c_stays_ignored(monkeypatch) -> None:
    """As in the background of a script, whose Ctrl-C is meant for another command."""
    monkeypatch.setattr(sys, "argv", ["seq2seq", "--version"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            main()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_blocks_are_what_is_there_and_no_more_than_asked_for() -> None:
    reading, writing = os.pipe()
    blocks = lines.read_blocks(reading, "pipe", size=3)
    os.write(writing, b"1\n2\npart")
    assert next(blocks) == ["1", "2"]
    os.write(writing, b" of 3\n4\n5\n6\n7\n")
    assert next(blocks) == ["part of 3", "4", "5"]
    assert next(blocks) == ["6", "7"]
    os.write(writing, b"8\n9\n10\n11\n\xff\n9\n")
    os.close(writing)
    assert next(blocks) == ["8", "9", "10"]
    assert next(blocks) == ["11"]
    with pytest.raises(CorpusError, match=r"pipe:12: is not UTF-8 \(0xff at byte 1 of the line\)"):
        next(blocks)
    os.close(reading)


PEAK = """
import os, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(model: Path, tmp_path: Path) -> None:
    peaks = []
    for lines_of_input in (5_000, 60_000):
        (tmp_path / "in").write_text("a fox\n\nlazy dog over\ndog\n" * (lines_of_input // 4))
        arguments = ["translate", model, "--beam-size", "1", "--max-length", "6"]
        files = ["-i", tmp_path / "in", "-o", tmp_path / f"out{lines_of_input}"]
        run = [sys.executable, "-c", PEAK, *COMMAND, *arguments, *files]
        peaks.append(int(subprocess.run(run, capture_output=True, text=True, check=True).stdout))
        assert (tmp_path / f"out{lines_of_input}").read_bytes().count(b"\n") == lines_of_input
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_output_is_the_beginning_of_the_whole(model: Path, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "in").write_text("a fox\n\nlazy dog over\ndog\n" * 50_000)
    arguments = ["translate", model, "--beam-size", "1", "--max-length", "6", "-i", tmp_path / "in"]
    out = tmp_path / "out"
    with subprocess.Popen([*COMMAND, *arguments, "-o", out]) as process:
        while not out.exists() or out.stat().st_size < 20_000:
            time.sleep(0.05)
        process.send_signal(how)
    text = out.read_text()
    assert 1000 < text.count("\n") < 200_000
    # The input repeats itself every four lines, and so must the output, up to its last character.
    four = "".join(text.splitlines(keepends=True)[:4])
    assert text == (four * len(text))[: len(text)]
    assert text.endswith("\n")
