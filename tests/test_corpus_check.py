"""A corpus with faults made on purpose: each is found where it is, and none where there is none."""

import gzip
import json
import os
import sys
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from seq2seq.cli.app import run
from seq2seq.corpus import ParallelText, from_pairs, hold_out, read_lines, read_places, read_tsv
from seq2seq.corpus.check import Finding, Histogram, check_data
from seq2seq.corpus.check.alignment import misaligned
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.vocabulary import Vocabulary

NOUNS = {"hund": "dog", "katze": "cat", "vogel": "bird", "pferd": "horse", "mädchen": "girl", "straße": "street"}
VERBS = {"schläft": "sleeps", "läuft": "runs", "springt": "jumps", "wartet": "waits", "liest": "reads"}
PLACES = {"hier": "here", "dort drüben": "over there", "unter dem großen baum": "under the big tree", "heute": "today"}


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs whose lengths go together."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        parts = [random.choice(list(table)) for _ in range(random.integers(1, 5)) for table in (NOUNS, VERBS, PLACES)]
        english = [(NOUNS | VERBS | PLACES)[part] for part in parts]
        found.append((" ".join(parts), " ".join(english)))
    return list(dict.fromkeys(found))[: count - count // 10]


SOUND = sentences(1200)


def findings(pairs: list[tuple[str, str]], **options: object) -> dict[str, Finding]:
    return {finding.kind: finding for finding in check_data(from_pairs(pairs), **options).findings}


def test_a_sound_corpus_gives_nothing_to_remark() -> None:
    report = check_data(from_pairs(SOUND))
    assert report.findings == ()
    assert report.is_sound
    assert report.pairs == len(SOUND)
    assert str(report).endswith("nothing to remark")
    source, target, ratio = report.histograms
    assert sum(source.counts) == sum(target.counts) == sum(ratio.counts) == len(SOUND)
    assert source.median == np.median([len(source) for source, _ in SOUND])


def test_blanks_duplicates_and_copies_are_counted_with_their_lines() -> None:
    pairs = [*SOUND[:50], ("", "dog"), ("hund", "  "), SOUND[3], SOUND[3], ("dog", "dog")]
    found = findings(pairs)
    assert found["blank"].message == "2 (3.6%) pairs with a blank side, which training drops: line 51, 52"
    assert found["duplicate"].message == "2 (3.6%) pairs that stand there before: line 53, 54"
    assert found["copy"].message == "1 (1.8%) pairs whose two sides are the same: line 55"
    assert not any(finding.is_fault for finding in found.values())


def test_blank_pairs_alone_are_a_fault() -> None:
    blank = [("", ""), ("hund", " "), ("", "dog")]
    found = findings(blank)["blank"]
    assert (found.is_fault, found.count) == (True, 3)
    assert found.message == "all 3 pairs have a blank side, and training drops these: nothing is left"
    found = findings(SOUND, held_out={"test": from_pairs(blank), "validation": from_pairs([*blank, ("neu", "new")])})
    assert list(found) == ["blank in test"]
    assert found["blank in test"].is_fault
    assert found["blank in test"].message.startswith("all 3 pairs of test have a blank side")


def test_blank_pairs_have_not_leaked() -> None:
    blank = [("", ""), ("hund", ""), ("", "dog")]
    held_out = from_pairs([*blank, ("neu", "new")])
    assert not [kind for kind in findings([*SOUND, *blank], held_out={"test": held_out}) if "in test" in kind]


def test_pairs_that_are_held_out_and_trained_on_are_a_fault() -> None:
    test = from_pairs([SOUND[1], (SOUND[2][0], "something else"), ("neu", "new")], "test")
    found = findings(SOUND, held_out={"test": test})
    assert found["pairs in test"].count == found["sources in test"].count == 1
    assert found["pairs in test"].is_fault
    assert not found["sources in test"].is_fault
    assert found["pairs in test"].examples[0].startswith("1: ")
    assert found["sources in test"].examples[0].startswith("2: ")


def test_what_differs_in_spaces_or_code_points_alone_has_leaked_too() -> None:
    known = [(f"un  café {number}", f"a coffee {number}") for number in range(50)]
    same = [(normalize("NFD", f" un café {number}"), f"a  coffee {number}") for number in range(50)]
    found = findings([*SOUND, *known, *same[:5]], held_out={"test": from_pairs(same)})
    assert found["pairs in test"].count == 50
    assert found["duplicate"].count == 5


def test_a_held_out_text_that_cannot_be_read_is_one_finding_of_all(tmp_path: Path) -> None:
    found = findings([*SOUND, SOUND[0]], held_out={"test": read_lines(tmp_path / "no", tmp_path / "where")})
    assert found["duplicate"].count == 1
    assert found["unreadable"].is_fault
    assert "cannot be read (No such file or directory)" in found["unreadable"].message


def test_swapped_and_foreign_sides_are_found() -> None:
    pairs = list(SOUND)
    for number in (10, 500):
        pairs[number] = pairs[number][::-1]
    pairs[20] = (pairs[21][1], pairs[20][1])
    pairs[30] = (pairs[30][0], pairs[31][0])
    found = findings(pairs)
    assert [example.split(":")[0] for example in found["swapped"].examples] == ["11", "501"]
    assert [example.split(":")[0] for example in found["source language"].examples] == ["21"]
    assert [example.split(":")[0] for example in found["target language"].examples] == ["31"]


@pytest.mark.parametrize("shift", [-2, 1, 3])
def test_lines_out_of_step_are_found_where_they_begin(shift: int) -> None:
    sources, targets = map(list, zip(*SOUND, strict=True))
    if shift > 0:
        targets[600:600] = targets[:shift]
    else:
        del targets[600 : 600 - shift]
    found = misaligned(*(np.array([len(text) for text in side], np.int32)[:900] for side in (sources, targets)))
    assert [(one.first, one.last, one.shift) for one in found] == [(601, 900, shift)]
    assert "misaligned" in findings(list(zip(sources, targets, strict=False)))


@pytest.mark.parametrize(
    ("lines", "lost", "expected"), [(119, 60, [(60, 119, -1)]), (119, 0, [(1, 119, -1)]), (59, 0, [(1, 59, -1)])]
)
def test_lines_out_of_step_are_found_to_the_last(lines: int, lost: int, expected: list[tuple[int, int, int]]) -> None:
    """In windows of 60, the last of which need not begin where the one before it ends."""
    sources, targets = map(list, zip(*SOUND[: lines + 1], strict=True))
    del targets[lost], sources[-1]
    assert misaligned(*(np.array([len(text) for text in side], np.int32) for side in (sources, targets))) == expected


def test_shuffled_lines_are_found() -> None:
    sources, targets = map(list, zip(*SOUND[:900], strict=True))
    targets[300:480] = np.random.default_rng(0).permutation(targets[300:480]).tolist()
    found = misaligned(*(np.array([len(text) for text in side], np.int32) for side in (sources, targets)))
    assert {one.shift for one in found} == {0}
    assert (found[0].first, found[-1].last) == (301, 480)
    assert misaligned(np.ones(500, np.int32), np.ones(500, np.int32)) == []


def test_what_the_vocabularies_do_not_know_is_named() -> None:
    vocabularies = tuple(Vocabulary.train([pair[side] for pair in SOUND], 200, kind="char") for side in (0, 1))
    pairs = [*SOUND[:40], ("der λόγος λ", "the word")]
    found = findings(pairs, vocabularies=vocabularies)
    assert "'λ' 2 times" in found["unknown characters"].message
    assert found["unknown characters"].message.startswith("5 characters of the source side")
    assert found["unknown tokens"].count == 2, "neighbours that are unknown are one token"
    assert found["round trip"].count == 1
    assert found["round trip"].examples[0].startswith("41: der λόγος λ comes back as der ")
    assert "target side" not in str([finding.message for finding in found.values()])
    assert check_data(from_pairs(SOUND), vocabularies=vocabularies).findings == ()
    assert check_data(from_pairs([("a\u0301 b\tc", "x")] * 2)).pairs == 2


def test_a_fault_in_the_middle_is_reported_with_what_stands_before_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("".join(f"{source}\n" for source, _ in SOUND[:30]), encoding="utf-8")
    (tmp_path / "b").write_text("".join(f"{target}\n" for _, target in SOUND[:28]), encoding="utf-8")
    report = check_data(read_places([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert report.pairs == 28
    assert not report.is_sound
    assert "as many lines, got 30 in" in report.findings[0].message
    with pytest.raises(CorpusError, match="cannot be read"):
        check_data(read_tsv(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("edges", "labels"), [((0, 1, 2, 5), ["0", "1", "2 - 4", "5 -"]), ((0.0, 0.5), ["0 - 0.5", "0.5 -"])]
)
def test_a_histogram_counts_every_value_once(edges: tuple[float, ...], labels: list[str]) -> None:
    values = np.array([0, 0, 1, 4, 5, 99])
    histogram = Histogram.of("x", values, edges)
    assert sum(histogram.counts) == 6
    assert [histogram.label(number) for number in range(len(edges))] == labels
    assert Histogram.of("x", values[:0], edges).lines() == ["x: median 0, largest 0"]


# ---- places and parts ----


def test_places_are_read_by_their_names(tmp_path: Path) -> None:
    pairs = SOUND[:5]
    (tmp_path / "a").write_text("".join(f"{source}\n" for source, _ in pairs), encoding="utf-8")
    (tmp_path / "b").write_text("".join(f"{target}\n" for _, target in pairs), encoding="utf-8")
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress("".join(f"{b}\t{a}\n" for a, b in pairs).encode()))
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"x": a, "y": b}) + "\n" for a, b in pairs))
    two = read_places([str(tmp_path / "a"), str(tmp_path / "b")])
    table = read_places([str(tmp_path / "c.tsv.gz")], columns=(2, 1))
    rows = read_places([str(tmp_path / "d.jsonl")], keys=("x", "y"))
    assert list(two) == list(table) == list(rows) == pairs
    for places in ([], ["a", "b", "c"]):
        with pytest.raises(ConfigError, match=f"one place or two files, got {len(places)}"):
            read_places(places)
    with pytest.raises(ConfigError, match="counted from 1, got 0 1"):
        read_places(["x.tsv"], columns=(0, 1))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"read several times, got .*pipe, which can be read once; give a file"):
        read_places([str(tmp_path / "a"), str(tmp_path / "pipe")])


def test_parts_hold_every_pair_once_and_no_source_twice() -> None:
    pairs = [(f"source {n % 700}", f"target {n}") for n in range(1000)]
    parts = hold_out(from_pairs(pairs))
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    sources = [set(part.sources()) for part in parts]
    assert not sources[0] & sources[1]
    assert not sources[0] & sources[2]
    assert not sources[1] & sources[2]
    assert all(0.02 < len(part) / 1000 < 0.08 for part in parts[1:])
    assert [list(part) for part in hold_out(from_pairs(pairs))] == [list(part) for part in parts]
    few = hold_out(from_pairs([(f"source {n}", "x") for n in range(4000)]), most=20)
    assert all(5 < len(part) < 45 for part in few[1:])
    with pytest.raises(CorpusError, match="too few different sentences to hold some out, 3"):
        hold_out(from_pairs([("a", "b")] * 3))


# ---- the command ----


@pytest.fixture
def command(corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs the command in the corpus' folder: exit code, output, errors."""
    monkeypatch.chdir(corpus)

    def run_command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(["check-data", *arguments])
        return (ended.value.code or 0, *capfd.readouterr())

    return run_command


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "pairs.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in SOUND), encoding="utf-8")
    (folder / "test.tsv").write_text("\t".join(SOUND[5]) + "\n", encoding="utf-8")
    Vocabulary.train([text for pair in SOUND for text in pair], 200, kind="char").save(folder / "joint.model")
    return folder


def test_the_command_tells_text_json_and_a_picture(command, corpus: Path) -> None:
    code, output, error = command("pairs.tsv", "--vocabulary", "joint.model", "--picture", "x.png")
    assert (code, error) == (0, "")
    assert "source length in tokens: median" in output
    assert "█" in output
    assert (corpus / "x.png").read_bytes().startswith(b"\x89PNG")
    code, output, error = command("pairs.tsv", "--test", "test.tsv", "--json")
    assert (code, error) == (1, "")
    found = json.loads(output)
    assert not found["is_sound"]
    assert [finding["kind"] for finding in found["findings"]] == ["pairs in test"]


def test_a_picture_has_any_name_of_a_file_as_its_title(command, corpus: Path) -> None:
    for name in ("a$b_{$.tsv", os.fsdecode(b"\xff.tsv")):
        os.link(corpus / "pairs.tsv", corpus / name)
        assert command(name, "--picture", "y.png")[0] == 0
        assert (corpus / "y.png").read_bytes().startswith(b"\x89PNG")


def test_the_commands_mistakes_are_one_line(command, corpus: Path) -> None:
    (corpus / "broken").write_bytes(b"a\tb\n\xff\tc\n")
    (corpus / "empty").write_bytes(b"")
    (corpus / "nul").write_bytes(b"a\0\tb\n")
    (corpus / "joint.txt").write_bytes(b"a\nb\n")
    for arguments, message in (
        (["nowhere.tsv"], "cannot be read"),
        (["empty"], "is empty"),
        (["nul"], "holds NUL"),
        (["pairs.tsv", "--vocabulary", "empty"], "SentencePiece"),
        (["pairs.tsv", "--vocabulary", "joint.model", "--model", "x"], "give --model or --vocabulary"),
        (["pairs.tsv", "--model", "x"], "not a model folder"),
        (["pairs.tsv", "--picture", "x.nothing"], "is no kind of picture"),
        (["nowhere.tsv", "--picture", "x"], "x: is no kind of picture"),
        (["nowhere.tsv", "--picture", ""], "end it in .png"),
        (["nowhere.tsv", "--picture", ".png"], "end it in .png"),
        (["pairs.tsv", "--picture", "nowhere/x.png"], "cannot be written"),
        (["a", "b", "c"], "one place or two files"),
    ):
        code, _, error = command(*arguments)
        assert code == 2, arguments
        assert error.startswith("error: "), arguments
        assert message in error
        assert error.count("\n") == 1
    assert not list(corpus.glob("*.png.png")) + list(corpus.glob(".png"))
    code, output, _ = command("joint.txt", "joint.txt")
    assert (code, "fault: all 2 pairs have two sides that are the same" in output) == (1, True)
    (corpus / "blank").write_bytes(b"\n \n")
    code, output, _ = command("blank", "blank")
    assert (code, output.count("fault: all 2 pairs have a blank side")) == (1, 1)
    code, output, error = command("pairs.tsv", "--picture", "nowhere/x.png")
    assert "source length in" in output, "the report is not lost with the picture"
    code, output, _ = command("broken")
    assert code == 1
    assert "fault: broken:2: is not UTF-8" in output


def test_a_picture_without_matplotlib_says_how_to_get_it(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seq2seq.corpus.check import draw_report

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        draw_report(check_data(from_pairs(SOUND)), corpus / "y.png")


def test_a_corpus_is_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [*SOUND[:95], ("", "x"), SOUND[0], SOUND[7][::-1]]
    whole = check_data(from_pairs(pairs))
    monkeypatch.setattr("seq2seq.corpus.check.check.BLOCK", 7)
    assert check_data(from_pairs(pairs)) == whole
    assert isinstance(from_pairs(pairs), ParallelText)
