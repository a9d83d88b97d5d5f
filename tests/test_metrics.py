"""The metrics agree with the `sacrebleu` command, and with what their definitions say."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from seq2seq import metrics
from seq2seq.errors import ConfigError, CorpusError

WORDS = [
    "the",
    "The",
    "cat",
    "sat",
    "on",
    "a",
    "mat,",
    "today.",
    "naïve",
    "x\u2028y",
    "日本語",
    "3.5",
    "&quot;",
    "",
    "\r",
]


def write(path: Path, lines: list[str]) -> str:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def random_lines(seed: int, count: int = 40) -> list[str]:
    random = Random(seed)
    return [" ".join(random.choices(WORDS, k=random.randint(0, 12))) for _ in range(count)]


def noisy(lines: list[str], seed: int) -> list[str]:
    random = Random(seed)
    return [
        " ".join(word if random.random() < 0.8 else random.choice(WORDS) for word in line.split(" ")) for line in lines
    ]


def sacrebleu_command(*arguments: str) -> list[dict]:
    command = [sys.executable, "-m", "sacrebleu", *arguments, "--format", "json", "--width", "12"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found if isinstance(found, list) else [found]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[str]], list[str]]:
    folder = tmp_path_factory.mktemp("metrics")
    first = random_lines(1)
    texts = [noisy(first, 5), first, noisy(first, 6)]
    return texts, [write(folder / name, lines) for name, lines in zip("abc", texts, strict=True)]


@pytest.mark.parametrize(
    ("metric", "options", "flags"),
    [
        ("bleu", {}, []),
        ("bleu", {"lowercase": True, "tokenize": "intl"}, ["-lc", "--tokenize", "intl"]),
        ("bleu", {"tokenize": "char"}, ["--tokenize", "char"]),
        ("chrf", {}, []),
        ("chrf", {"lowercase": True}, ["--chrf-lowercase"]),
        ("ter", {}, []),
        ("ter", {"lowercase": False}, ["--ter-case-sensitive"]),
    ],
)
def test_scores_and_signatures_are_those_of_the_sacrebleu_command(files, metric, options, flags) -> None:
    (hypotheses, *references), (hypothesis_file, *reference_files) = files
    (theirs,) = sacrebleu_command(*reference_files, "-i", hypothesis_file, "-m", metric, *flags)
    ours = metrics.METRICS[metric](hypotheses, references, **options)
    assert ours.name == theirs["name"]
    assert ours.signature == theirs["signature"]
    assert f"{ours.value:.12f}" == f"{theirs['score']:.12f}"
    assert str(ours) == f"{theirs['name']}|{theirs['signature']} = {theirs['score']:.1f}"


def test_the_paired_bootstrap_is_that_of_the_sacrebleu_command(files) -> None:
    texts, (reference, *systems) = files
    theirs = sacrebleu_command(reference, "-i", *systems, "--paired-bs", "--paired-bs-n", "200")
    ours = metrics.paired_bootstrap("bleu", texts[1], texts[2], [texts[0]], samples=200)
    first, second = (system["BLEU"] for system in theirs)
    assert (ours.baseline.value, ours.system.value) == pytest.approx((first["score"], second["score"]), abs=1e-9)
    assert ours.p_value == pytest.approx(second["p_value"], abs=1e-9)
    assert ours.system_interval == pytest.approx((second["mean"], second["ci"]), abs=1e-9)


def test_exact_match_counts_equal_lines() -> None:
    score = metrics.exact_match(["a b", "C ", "d", ""], [["a b", "c", "x", ""], ["", "C", "y", "e"]])
    assert score.value == 75
    assert str(score).startswith("EM|nrefs:2|case:mixed|version:")
    assert metrics.exact_match(["A"], [["a"]], lowercase=True).value == 100


def test_exact_match_can_be_compared_too() -> None:
    better, worse, truth = ["a"] * 30, ["a"] * 15 + ["b"] * 15, ["a"] * 30
    found = metrics.paired_bootstrap("exact_match", worse, better, [truth])
    assert (found.baseline.value, found.system.value) == (50, 100)
    assert found.p_value < 0.01
    assert metrics.paired_bootstrap("exact_match", worse, worse, [truth]).p_value == 1


def test_a_perfect_translation_scores_a_hundred() -> None:
    lines = ["This is a sentence of six words.", "And another one, of seven words."]
    for metric, perfect in {"bleu": 100, "chrf": 100, "ter": 0, "exact_match": 100}.items():
        assert metrics.score(metric, lines, [lines]).value == pytest.approx(perfect)


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(CorpusError, match="reference 2 must have as many lines as the hypotheses, got 1 and 2"):
        metrics.bleu(["a", "b"], [["a", "b"], ["a"]])
    with pytest.raises(CorpusError, match="needs lines"):
        metrics.bleu([], [[]])
    with pytest.raises(ConfigError, match="metric must be one of bleu, chrf, ter, exact_match, got 'meteor'"):
        metrics.score("meteor", ["a"], [["a"]])
    with pytest.raises(ConfigError, match=r"tokenize must be one of .*13a.*, got 'moses'"):
        metrics.bleu(["a"], [["a"]], tokenize="moses")
    with pytest.raises(ConfigError, match="tokenize is an option of bleu"):
        metrics.Judge("chrf", tokenize="13a")
    with pytest.raises(ConfigError, match="must be a list of texts, got the text 'a'; one list of references is"):
        metrics.exact_match(["a", "b"], ["a", "b"])
    with pytest.raises(ConfigError, match="must be a list of texts, got the text 'abc'"):
        metrics.exact_match("abc", [["abc"]])
    with pytest.raises(ConfigError, match="samples must be at least 1, got 0"):
        metrics.paired_bootstrap("bleu", ["a"], ["b"], [["a"]], samples=0)
