"""The committed corpora: what `prepare.py` makes, with nothing of a test set in training."""

import gzip
import hashlib
import importlib.util
import io
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest
from babel.core import get_cldr_version

DATA = Path(__file__).parent.parent / "data"
CORPORA = {
    "dates": {"train": 20_000, "validation": 500, "test": 1_000},
    "numbers": {"train": 18_500, "validation": 500, "test": 1_000},
    "reverse": {"train": 20_000, "validation": 500, "test": 1_000},
    "scan": {"commands": 20_910},
}
MULTI30K = [f"{split}.{language}.gz" for split in ("train", "val", "test_2016_flickr") for language in ("de", "en")]


def run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False)


def read(path: Path) -> list[tuple[str, str]]:
    lines = gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
    pairs = [tuple(line.split("\t")) for line in lines]
    assert all(len(pair) == 2 for pair in pairs)
    return pairs


@pytest.mark.parametrize("name", CORPORA)
def test_prepare_makes_the_committed_files(name, tmp_path):
    if name == "dates" and get_cldr_version() != "47":
        pytest.skip("another CLDR may spell a date differently; the committed files are made with CLDR 47")
    if name == "numbers" and version("num2words") != "0.5.14":
        pytest.skip("another num2words may spell a number differently; the committed files are made with 0.5.14")
    result = run(DATA / name / "prepare.py", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    committed = sorted((DATA / name).glob("*.tsv.gz"))
    assert [path.stem for path in committed] == sorted(f"{part}.tsv" for part in CORPORA[name])
    for path in committed:
        # The text is compared: how well gzip packs it differs between builds of zlib.
        assert gzip.decompress(path.read_bytes()) == gzip.decompress((tmp_path / path.name).read_bytes())
        assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", CORPORA)
def test_prepare_cannot_write_into_a_file(name, tmp_path):
    (tmp_path / "file").touch()
    result = run(DATA / name / "prepare.py", "--out", tmp_path / "file")
    assert result.returncode == 2
    assert result.stderr.endswith("file: cannot be written (File exists); make room for it, or give another --out\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["dates", "numbers", "reverse"])
def test_held_out_is_held_out(name):
    parts = {part: read(DATA / name / f"{part}.tsv.gz") for part in CORPORA[name]}
    assert {part: len(pairs) for part, pairs in parts.items()} == CORPORA[name]
    sources = [source for pairs in parts.values() for source, _ in pairs]
    targets = [target for pairs in parts.values() for _, target in pairs]
    assert len(set(sources)) == len(sources)
    assert len(set(targets)) == len(targets), "a date, number or sequence stands in two places"


def test_dates_are_in_many_languages_and_have_one_reading():
    pairs = [pair for part in CORPORA["dates"] for pair in read(DATA / "dates" / f"{part}.tsv.gz")]
    assert all(date.fromisoformat(target) for _, target in pairs)
    words = {word for text, target in pairs if "-11-" in target for word in text.lower().split()}
    assert {"november", "noviembre", "novembre", "novembro", "listopada", "ноября"} <= words
    for text, target in pairs:
        if numeric := re.fullmatch(r"(\d\d?)[./-](\d\d?)[./-](\d\d|\d{4})", text):
            day, month, year = numeric.groups()
            assert target.endswith(f"{year}-{int(month):02}-{int(day):02}"), text
            assert 1969 <= date.fromisoformat(target).year <= 2068, text


def test_numbers_below_a_hundred_are_all_in_training():
    assert {"zero", "seven", "ninety-nine"} <= dict(read(DATA / "numbers" / "train.tsv.gz")).keys()


def test_reverse_is_reversed():
    assert all(source[::-1] == target for part in CORPORA["reverse"] for source, target in read_part(part))


def read_part(part: str) -> list[tuple[str, str]]:
    return read(DATA / "reverse" / f"{part}.tsv.gz")


def test_scan_is_the_published_one():
    """Counts of Lake & Baroni (2018), section 2 and 4, and examples from their figure 1."""
    pairs = read(DATA / "scan" / "commands.tsv.gz")
    assert len(set(pairs)) == 20_910
    lengths = [len(actions.split()) for _, actions in pairs]
    assert sum(length <= 22 for length in lengths) == 16_990
    assert sum(length > 22 for length in lengths) == 3_920
    assert max(lengths) == 48
    meaning = dict(pairs)
    assert meaning["jump"] == "I_JUMP"
    assert meaning["jump left"] == "I_TURN_LEFT I_JUMP"
    assert meaning["jump around right"] == " ".join(["I_TURN_RIGHT I_JUMP"] * 4)
    assert meaning["turn left twice"] == "I_TURN_LEFT I_TURN_LEFT"
    assert meaning["jump thrice"] == "I_JUMP I_JUMP I_JUMP"
    assert meaning["jump opposite left and walk thrice"] == "I_TURN_LEFT I_TURN_LEFT I_JUMP I_WALK I_WALK I_WALK"
    assert meaning["jump opposite left after walk around left"] == (
        " ".join(["I_TURN_LEFT I_WALK"] * 4) + " I_TURN_LEFT I_TURN_LEFT I_JUMP"
    )


def test_multi30k_refuses_a_foreign_file_in_one_line(tmp_path):
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(b"Ein Hund.\n"))
    result = run(DATA / "multi30k" / "prepare.py", "--from", tmp_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert re.fullmatch(r"error: train\.de\.gz .*sha256 must be \w{64}, got \w{64}.*\n", result.stderr)
    assert not list((tmp_path / "out").iterdir())


def test_multi30k_refuses_a_folder_that_cannot_be_written_in_one_line(tmp_path):
    (tmp_path / "out").touch()
    result = run(DATA / "multi30k" / "prepare.py", "--from", tmp_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert re.fullmatch(r"error: .*out must be a folder that .*, got File exists; say --out FOLDER\n", result.stderr)


def test_multi30k_takes_a_folder_and_keeps_what_is_whole(tmp_path, monkeypatch):
    """With the real checksums replaced by those of small files, as a subprocess cannot be patched."""
    specification = importlib.util.spec_from_file_location("multi30k_prepare", DATA / "multi30k" / "prepare.py")
    prepare = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(prepare)
    brought, out = tmp_path / "brought", tmp_path / "out"
    brought.mkdir()
    for name in MULTI30K:
        (brought / name).write_bytes(gzip.compress(name.encode()))
    monkeypatch.setattr(
        prepare, "SHA256", {name: hashlib.sha256((brought / name).read_bytes()).hexdigest() for name in MULTI30K}
    )
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--from", str(brought), "--out", str(out)])
    prepare.main()
    assert sorted(path.name for path in out.iterdir()) == sorted(MULTI30K)
    (out / "val.de.gz").write_bytes(b"broken")
    for name in MULTI30K:
        if name != "val.de.gz":
            (brought / name).unlink()  # only the broken one may be asked for again
    prepare.main()
    assert (out / "val.de.gz").read_bytes() == (brought / "val.de.gz").read_bytes()


def test_multi30k_packs_the_tokenised_files(tmp_path, monkeypatch):
    """They lie on the server as plain text, whose checksum it is that is known."""
    specification = importlib.util.spec_from_file_location("multi30k_prepare", DATA / "multi30k" / "prepare.py")
    prepare = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(prepare)
    asked = []

    def answer(url, **_):
        asked.append(url)
        return io.BytesIO(gzip.compress(b"x\n") if url.endswith(".gz") else b"ein hund .\n")

    monkeypatch.setattr(prepare.urllib.request, "urlopen", answer)
    monkeypatch.setattr(prepare, "SHA256", {})
    monkeypatch.setattr(prepare, "LINES", {"train": 1})
    arguments = ["prepare.py", "--out", str(tmp_path), "--tokenised", "--languages", "fr"]
    monkeypatch.setattr(sys, "argv", arguments)
    prepare.main()
    assert [url.rpartition("task1")[2] for url in asked] == ["/raw/train.fr.gz", "/tok/train.lc.norm.tok.fr"]
    packed = tmp_path / "train.lc.norm.tok.fr.gz"
    assert gzip.decompress(packed.read_bytes()) == b"ein hund .\n"
    monkeypatch.setattr(prepare, "SHA256", {packed.name: hashlib.sha256(b"ein hund .\n").hexdigest()})
    prepare.main()
    assert len(asked) == 2
    brought, out = tmp_path / "brought", tmp_path / "out"
    brought.mkdir()
    for name, content in (("train.fr.gz", gzip.compress(b"x\n")), ("train.lc.norm.tok.fr", b"ein hund .\n")):
        (brought / name).write_bytes(content)
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(out), "--from", str(brought)])
    prepare.main()
    assert (out / packed.name).read_bytes() == packed.read_bytes()
    assert "sha256 must be" in prepare.fault(packed.name, gzip.compress(b"eine hund .\n"))


def test_multi30k_says_what_to_do_offline(tmp_path):
    """A proxy that refuses every connection stands for a machine without a network."""
    result = subprocess.run(
        [sys.executable, DATA / "multi30k" / "prepare.py", "--out", tmp_path],
        env={"https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot download https://raw.githubusercontent.com/multi30k/")
    assert "--from FOLDER" in result.stderr
    assert result.stderr.count("\n") == 1
