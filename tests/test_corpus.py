"""Laws of reading: equal text from any kind of file, only newlines end lines, every fault is named with its place."""

import gzip
import json
import lzma
import zipfile
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq.corpus import (
    Limits,
    check_fields,
    from_pairs,
    read_hub,
    read_jsonl,
    read_lines,
    read_places,
    read_text,
    read_tsv,
)
from seq2seq.errors import ConfigError, CorpusError

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
few_pairs = st.lists(st.tuples(st.text("ab\n", max_size=3), st.text("ab\n", max_size=3)), min_size=1, max_size=3)

PAIRS = [("ein Hund", "a dog"), ("", "blank"), ("zwei\u2028Katzen\x0c \x85", "two\rcats\v"), ("Größe 👩‍👧", "e\u0301")]
SOURCES = "".join(f"{source}\n" for source, _ in PAIRS).encode()
TARGETS = "".join(f"{target}\n" for _, target in PAIRS).encode()


def write(path, content):
    """Content in whatever packing the name asks for."""
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".xz":
        content = lzma.compress(content)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("text.txt", content)
        return path
    path.write_bytes(content)
    return path


def message(read):
    with pytest.raises(CorpusError) as caught:
        list(read() if callable(read) else read)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.fixture(params=["", ".gz", ".xz", ".zip"])
def packing(request):
    return request.param


def test_all_kinds_of_files_give_the_same_pairs(tmp_path, packing):
    tsv = "".join(f"{n}\t{source}\t{target}\textra\n" for n, (source, target) in enumerate(PAIRS))
    rows = "".join(json.dumps({"source": source, "translation": {"en": target}}) + "\n" for source, target in PAIRS)
    texts = [
        read_lines(write(tmp_path / f"de{packing}", SOURCES), write(tmp_path / f"en{packing}", TARGETS)),
        read_tsv(write(tmp_path / f"both.tsv{packing}", tsv.encode()), columns=(1, 2)),
        read_jsonl(write(tmp_path / f"both.jsonl{packing}", rows.encode()), keys=("source", "translation.en")),
        from_pairs(PAIRS),
    ]
    for text in texts:
        assert list(text) == PAIRS
        assert list(text) == PAIRS, "a second reading"
        assert len(text) == len(PAIRS)
        assert list(text.sources()) == [source for source, _ in PAIRS]
        assert list(text.targets()) == [target for _, target in PAIRS]
        assert text.check() is text
    assert len({text.fingerprint for text in texts}) == 1


@given(few_pairs, few_pairs)
@few
def test_different_text_has_another_fingerprint(pairs, others):
    assert (from_pairs(pairs).fingerprint == from_pairs(others).fingerprint) == (pairs == others)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=9), max_size=5),
    st.booleans(),
    st.booleans(),
)
@few
def test_only_newlines_end_lines(tmp_path_factory, lines, mark, last):
    path = tmp_path_factory.mktemp("lines") / "file"
    lines = [line.removesuffix("\r") for line in [*lines, "end"]]
    if mark is False and lines[0].startswith("\ufeff"):
        lines[0] = "x" + lines[0]
    text = "\n".join(lines) + ("\n" if last else "")
    path.write_bytes(("\ufeff" if mark else "").encode() + text.encode())
    assert list(read_text(path)) == lines
    path.write_bytes(("\ufeff" if mark else "").encode() + text.replace("\n", "\r\n").encode())
    assert list(read_text(path)) == lines, "the same with \\r\\n"


def test_only_the_return_before_a_newline_goes_with_it(tmp_path):
    assert list(read_text(write(tmp_path / "f", b"a\r\r\nb\rc\nd\r"))) == ["a\r", "b\rc", "d\r"]


def test_blank_lines_are_lines(tmp_path):
    assert list(read_text(write(tmp_path / "f", b"\n \n\n"))) == ["", " ", ""]


def test_a_very_long_line(tmp_path):
    line = "wort " * 200_000
    assert list(read_text(write(tmp_path / "f.gz", line.encode()))) == [line]


def test_invalid_utf8_is_placed(tmp_path, packing):
    path = write(tmp_path / f"bad{packing}", b"good\nb\xc3\xb6\xffd\nend\n")
    assert message(read_text(path)).startswith(f"{path}:2: is not UTF-8 (0xff at byte 4 of the line)")
    other = write(tmp_path / "en", b"1\n2\n3\n")
    assert message(read_lines(other, path)).startswith(f"{path}:2: ")
    assert message(read_lines(path, other).check).startswith(f"{path}:2: ")


def test_utf16_is_recognised(tmp_path):
    assert "1: is UTF-16" in message(read_text(write(tmp_path / "bad", "hällo\n".encode("utf-16"))))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zip"])
def test_packed_data_by_another_name_is_recognised(tmp_path, suffix):
    path = write(tmp_path / f"text{suffix}", SOURCES).rename(tmp_path / "text")
    assert f"{path}:1: is packed data, must be text; give the file a name that ends in {suffix}" in message(
        read_text(path)
    )


def test_packed_data_whose_first_bytes_are_utf8_is_recognised(tmp_path):
    """As those of a zip are at some hours: the time of day is among them."""
    path = write(tmp_path / "text", b"PK\x03\x04\x14\0\0\0\0\0\n\xff")
    assert message(read_text(path)) == f"{path}:1: is packed data, must be text; give the file a name that ends in .zip"
    path = write(tmp_path / "nul", b"a\nPK\x03\x04\0\n")
    assert message(read_text(path)) == f"{path}:2: holds NUL, so it is no text; remove it or give another file"


def test_nul_is_placed(tmp_path):
    path = write(tmp_path / "bad", b"good\nba\0d\n")
    assert f"{path}:2: holds NUL" in message(read_text(path))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path, packing, content):
    if content and packing:
        pytest.skip("once is enough")
    path = write(tmp_path / f"bad{packing}", content)
    if content:
        assert list(read_text(path)) == [""], "a byte-order mark alone is a line without a newline"
    else:
        assert message(read_text(path)).startswith(f"{path}: is empty")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zip"])
def test_a_packed_file_without_a_byte_is_empty_too(tmp_path, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"")
    assert message(read_text(path)) == f"{path}: is empty; give a file with at least one line"
    other = write(tmp_path / "en", b"1\n")
    assert message(read_lines(other, path)) == message(read_lines(path, other)) == message(read_text(path))
    assert message(read_text(path / "member")).startswith(f"{path / 'member'}: is empty" if suffix == ".zip" else "")


def test_missing_file_and_folder(tmp_path):
    assert f"{tmp_path}/none.gz: cannot be read (No such file" in message(read_text(tmp_path / "none.gz"))
    assert f"{tmp_path}: cannot be read (Is a directory)" in message(read_text(tmp_path))


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    text = read_lines(tmp_path / "de", tmp_path / "en")
    write(tmp_path / "de", SOURCES)
    write(tmp_path / "en", TARGETS)
    assert list(text) == PAIRS


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zip"])
def test_packed_files_that_are_broken(tmp_path, packing):
    path = write(tmp_path / f"bad{packing}", "".join(f"line {n * n}\n" for n in range(5_000)).encode())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    said = message(read_text(path))
    assert said.startswith(f"{path}: ")
    assert "fetch it again" in said
    path.write_bytes(b"not packed at all\n")
    assert "cannot be unpacked" in message(read_text(path))
    path.write_bytes(whole[:100] + b"\x55" * 20 + whole[120:])
    assert "fetch it again" in message(read_text(path))


def test_a_truncated_gz_is_named_so(tmp_path):
    path = write(tmp_path / "bad.gz", SOURCES)
    path.write_bytes(path.read_bytes()[:-4])
    assert "is truncated" in message(read_text(path))


def test_members_of_an_archive(tmp_path):
    path = tmp_path / "deu-eng.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_about.txt", "about")
        archive.writestr("folder/", "")
        archive.writestr("folder/deu.txt", "Hund\n")
    assert list(read_text(path)) == ["Hund"]
    assert list(read_text(path / "_about.txt")) == ["about"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("folder/eng.txt", "dog\n")
    assert "which holds _about.txt, folder/deu.txt, folder/eng.txt; add /NAME" in message(read_text(path))
    assert list(read_lines(path / "deu.txt", path / "folder/eng.txt")) == [("Hund", "dog")]
    assert "must mean one file" in message(read_text(path / "fra.txt"))


@pytest.mark.parametrize(("sources", "targets", "counts"), [("1\n2\n3\n", "1\n", (3, 1)), ("1\n", "1\n2\n\n", (1, 3))])
def test_unequal_counts_are_both_told(tmp_path, sources, targets, counts):
    source, target = write(tmp_path / "de", sources.encode()), write(tmp_path / "en.gz", targets.encode())
    said = message(read_lines(source, target))
    assert f"got {counts[0]} in {source} and {counts[1]} in {target}" in said


def test_a_missing_column_is_placed(tmp_path):
    path = write(tmp_path / "f.tsv", b"a\tb\nc\n")
    assert f"{path}:2: must have 2 columns separated by tabs, got 1" in message(read_tsv(path))
    with pytest.raises(ConfigError):
        read_tsv(path, columns=(-1, 0))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("", "must be a JSON object, got a blank line (Expecting value: line 1 column 1 (char 0)); mend it"),
        ("{", "must be a JSON object"),
        ("[" * 100_000, "must be a JSON object"),
        ("[1]", "has no 'source'"),
        ('{"target": "b"}', "has no 'source', got target"),
        ('{"source": 1, "target": "b"}', "'source': must be text, got 1"),
        ('{"source": null, "target": "b"}', "'source': must be text, got None"),
        ('{"source": "a\\u0000", "target": "b"}', "holds NUL"),
        ('{"source": "a", "target": "\\ud800"}', "half of a surrogate pair"),
    ],
)
def test_bad_json_is_placed(tmp_path, row, fault):
    path = write(tmp_path / "f.jsonl", ('{"source": "a", "target": "b"}\n' + row + "\n").encode())
    said = message(read_jsonl(path))
    assert said.startswith(f"{path}:2: ")
    assert fault in said
    assert len(said) < 400


def test_bad_pairs_in_memory():
    assert "mine:2: holds NUL" in message(lambda: from_pairs([("a", "b"), ("c", "\0")], name="mine"))
    assert "mine:1: must be text, got None" in message(lambda: from_pairs([("a", None)], name="mine"))
    assert "mine: is empty" in message(lambda: from_pairs([], name="mine"))
    for wrong in (("a", "b", "c"), "ab", 3):
        assert "mine:1: must be a pair (source, target), got" in message(partial(from_pairs, [wrong], "mine"))


@pytest.mark.parametrize("values", [{"max_length": 0}, {"max_ratio": 0.5}, {"max_ratio": float("nan")}])
def test_limits_that_cannot_be(values):
    with pytest.raises(ConfigError):
        Limits(**values)


@pytest.mark.parametrize(
    ("sets", "columns", "keys", "message"),
    [
        ([["a.de", "a.en"], []], (2, 1), ("source", "target"), "columns are those of a TSV, got 2 1"),
        ([["a.jsonl"]], (2, 1), ("source", "target"), "columns are those of a TSV, got 2 1"),
        ([["a.de", "a.en"], ["b.tsv"]], (1, 2), ("en", "de"), "keys are those of JSON lines and data sets, got en de"),
        ([["a.de", "a.en"]], (1, 2), ("en", "de"), "data sets, got en de and none; leave them out$"),
        ([["c.json"]], (1, 2), ("en", "de"), r"got en de and c.json; .* or end the name of JSON lines in \.jsonl$"),
        ([["a.jsonl.d/b.tsv"]], (1, 2), ("en", "de"), "keys are those of JSON lines"),
        ([["a.JSONL.gz"], ["b.ndjson"], ["c.zip/d.jsonl"]], (1, 2), ("en", "de"), None),
        ([["a.de", "a.en"], ["b.tsv"]], (2, 1), ("source", "target"), None),
        ([["hub:x"], ["b.tsv"]], (2, 1), ("en", "de"), None),
        ([["b.tsv"]], (2, 2), ("source", "target"), "columns must be two, of source and target, got 2 for both"),
        ([["hub:x"]], (1, 2), ("de", "de"), "keys must be two, of source and target, got de for both"),
        ([["a.de", "a.en"]], (1, 2), ("source", "target"), None),
    ],
)
def test_columns_and_keys_of_nothing_are_refused(sets, columns, keys, message):
    """Else the other direction than the one meant would be trained."""
    if message is None:
        check_fields(sets, columns, keys)
    else:
        with pytest.raises(ConfigError, match=message):
            check_fields(sets, columns, keys)


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson", "P.JSONL", "p.jsonl.gz", "p.ndjson.xz", "p.jsonl.zip"])
def test_json_lines_are_told_by_the_end_of_the_name(tmp_path, name):
    write(tmp_path / name, b'{"x": "a", "y": "b"}\n')
    assert list(read_places([str(tmp_path / name)], keys=("x", "y"))) == [("a", "b")]


@pytest.mark.parametrize("name", ["p.jsonl_split/p.tsv", "p.jsonl/p", "p.jsonl.tsv", "p.jsonl.tsv.gz", "jsonl.tsv"])
def test_a_table_with_jsonl_elsewhere_in_its_path_is_one(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, b"a\tb\n")
    assert list(read_places([str(tmp_path / name)])) == [("a", "b")]


def test_members_of_an_archive_are_told_by_their_own_names(tmp_path):
    path = tmp_path / "both.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p.jsonl", '{"source": "a", "target": "b"}\n')
        archive.writestr("p.tsv", "c\td\n")
    assert list(read_places([f"{path}/p.jsonl"])) == [("a", "b")]
    assert list(read_places([f"{path}/p.tsv"])) == [("c", "d")]


def test_json_by_another_name_says_which_one_it_needs(tmp_path):
    path = write(tmp_path / "p.json", b'{"source": "a", "target": "b"}\n')
    assert message(read_places([str(path)])).endswith("other columns, or end the name of JSON lines in .jsonl")


def test_a_text_without_a_whole_pair_is_blank():
    for pairs in ([("a", " "), ("\u3000", "b")], [("", "")]):
        with pytest.raises(CorpusError, match="mine: must have a pair with text on both sides, got blank ones alone"):
            from_pairs(pairs, "mine").check_not_blank()
    text = from_pairs([("", ""), ("a", "b")])
    assert text.check_not_blank() is text


def test_a_text_of_several_lines_is_one(tmp_path):
    path = write(tmp_path / "f.jsonl", json.dumps({"source": "a\nb", "target": "c"}).encode() + b"\n")
    assert list(read_jsonl(path)) == [("a b", "c")]


def test_a_data_set_in_a_local_folder(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "set"
    folder.mkdir()
    rows = "".join(json.dumps({"translation": {"de": source, "en": target}}) + "\n" for source, target in PAIRS)
    (folder / "train.jsonl").write_text(rows)
    (folder / "test.jsonl").write_text(rows.splitlines()[0] + "\n")
    text = read_hub(str(folder), "train", ("translation.de", "translation.en"))
    assert list(text) == PAIRS
    for place, pairs in ((f"hub:{folder}", PAIRS), (f"hub:{folder}:test", PAIRS[:1])):
        assert list(read_places([place], keys=("translation.de", "translation.en"))) == pairs
    assert list(read_places([f"hub:{folder}:train[:1]"], keys=("translation.de", "translation.en"))) == PAIRS[:1]
    assert text.fingerprint == from_pairs(PAIRS).fingerprint
    assert f"{folder}/train:1: has no 'fr'" in message(read_hub(str(folder), "train", ("fr", "translation.en")))
    assert "cannot be loaded" in message(read_hub(str(folder), "validation", ("a", "b")))
    assert "check name, split and network" in message(read_hub(str(tmp_path / "none"), "train", ("a", "b")))


def test_a_configuration_of_a_data_set(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "set"
    folder.mkdir()
    names = [f"- config_name: {pair}\n  data_files: {pair}/*.jsonl\n" for pair in ("de-en", "fr-en")]
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(names)}---\n")
    for pair, line in (("de-en", {"a": "ja", "b": "yes"}), ("fr-en", {"a": "oui", "b": "yes"})):
        (folder / pair).mkdir()
        (folder / pair / "all.jsonl").write_text(json.dumps(line) + "\n")
    for part in ("train", ""):
        assert list(read_places([f"hub:{folder}:fr-en:{part}"], keys=("a", "b"))) == [("oui", "yes")]
    assert "cannot be loaded" in message(read_places([f"hub:{folder}"], keys=("a", "b")))  # which of the two?
    for place in ("hub:a:b:c:d", "hub:", "hub::test"):
        with pytest.raises(ConfigError, match=f"is hub:NAME, .* or hub:NAME:CONFIGURATION:PART, got {place}"):
            read_places([place], keys=("a", "b"))
