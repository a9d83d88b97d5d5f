"""Each recipe as a user runs it, on a few batches: it ends with a model folder, scores, samples and next commands."""

import csv
import gzip
import importlib
import json
import sys
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest
import started

from seq2seq.config import ModelConfig, TrainingConfig
from seq2seq.corpus import read_tsv
from seq2seq.training.start import check_dropout

CAPTIONS = [("ein Hund läuft .", "a dog runs ."), ("zwei Frauen singen .", "two women sing ."), ("Hallo !", "hello !")]


def run(recipe: str, *arguments: object, cwd: Path) -> CompletedProcess[str]:
    """Without a network: what a recipe needs is committed or given."""
    return started.run(f"recipes/{recipe}", *arguments, cwd=cwd, HF_HUB_OFFLINE="1")


def check_result(result: CompletedProcess[str], folder: Path) -> None:
    assert result.returncode == 0, result.stderr
    assert {"config.json", "model.safetensors", "source.model", "README.md"} <= {path.name for path in folder.iterdir()}
    scores = json.loads((folder / "metrics.json").read_text())
    assert "nrefs:1" in json.dumps(scores)
    assert "seq2seq translate" in result.stdout
    assert "Traceback" not in result.stderr
    # A handful of words cannot fill a vocabulary meant for real text, and is told so; nothing else is to be warned of.
    warned = [
        line
        for line in (result.stderr + result.stdout).splitlines()
        if line.lower().startswith("warning") or "Warning" in line
    ]
    assert all(line.startswith("warning: ") and "tokens, got size=" in line for line in warned)


@pytest.fixture
def captions(tmp_path):
    """A folder with the names of Multi30k and a few captions of our own."""
    folder = tmp_path / "captions"
    folder.mkdir()
    for part, times in (("train", 60), ("val", 2), ("test_2016_flickr", 2)):
        for side, language in enumerate(("de", "en")):
            text = "".join(f"{pair[side]}\n" for pair in CAPTIONS * times)
            (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(text.encode()))
            (folder / f"{part}.lc.norm.tok.{language}.gz").write_bytes(gzip.compress(text.lower().encode()))
    return folder


@pytest.mark.parametrize("name", ["reverse", "dates", "number_words"])
def test_toy_recipe(name, tmp_path):
    check_result(run(f"{name}.py", "--smoke", cwd=tmp_path), tmp_path / "runs" / name)


@pytest.mark.parametrize(
    "split", ["simple", *(pytest.param(split, marks=pytest.mark.slow) for split in ("length", "add_prim_jump"))]
)
def test_scan(split, tmp_path):
    check_result(run("scan.py", "--smoke", "--split", split, cwd=tmp_path), tmp_path / "runs" / f"scan-{split}")


@pytest.mark.slow
def test_multi30k_from_raw_text_to_raw_text(captions, tmp_path):
    options = ["--smoke", "--data", captions, "--out", "x", "--precision", "bfloat16"]
    check_result(run("multi30k.py", *options, cwd=tmp_path), tmp_path / "x")
    assert json.loads((tmp_path / "x" / "config.json").read_text())["training"]["settings"]["precision"] == "bfloat16"
    assert "tok:13a" in (tmp_path / "x" / "metrics.json").read_text()


def test_multi30k_in_any_direction_tokenised_is_scored_as_it_stands(captions, tmp_path):
    arguments = ["--source", "en", "--target", "de", "--tokenised", "--seed", 7]
    result = run("multi30k.py", "--smoke", "--data", captions, *arguments, cwd=tmp_path)
    folder = tmp_path / "runs" / "multi30k-en-de-tokenised"
    check_result(result, folder)
    scores = json.loads((folder / "metrics.json").read_text())["scores"]
    assert scores["bleu"]["signature"].startswith("nrefs:1|case:lc|eff:no|tok:none|")
    assert "|case:lc|" in scores["chrf"]["text"]
    assert json.loads((folder / "config.json").read_text())["training"]["settings"]["seed"] == 7


@pytest.mark.slow
def test_ablations_end_with_a_table_and_are_not_made_again(captions, tmp_path):
    arguments = ["--smoke", "--data", captions, "--source", "de", "--target", "en", "--out", "x", "--no-r-drop"]
    arguments += ["--precision", "bfloat16"]
    named = ["--variant", "R-Drop", "--variant", "Sutskever et al. 2014, source reversed"]
    result = run("multi30k_ablations.py", *arguments, *named, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "x" / "table.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["full", "ensemble of 3", "R-Drop", "Sutskever et al. 2014, source reversed"]
    for name, alpha in (("full-1", 0.0), ("r-drop-1", 3.0), ("sutskever-et-al-2014-source-reversed-1", 0.0)):
        about = json.loads((tmp_path / "x" / name / "config.json").read_text())["training"]
        assert about["settings"]["r_drop"] == alpha
        assert about["settings"]["precision"] == "bfloat16"
    settings = json.loads((tmp_path / "x" / "sutskever-et-al-2014-source-reversed-1" / "config.json").read_text())
    assert settings["model"]["attention"] == "none"
    assert settings["model"]["reverse_source"] is True
    assert json.loads((tmp_path / "x" / "full-3" / "config.json").read_text())["training"]["settings"]["seed"] == 3
    assert "ensemble of 3" in (tmp_path / "x" / "table.txt").read_text()


@pytest.mark.slow
def test_ablations_take_a_trial_for_no_result_and_make_no_result_again(captions, tmp_path):
    arguments = ["--data", captions, "--source", "de", "--target", "en", "--out", "x", "--variant", "full"]
    trial = run("multi30k_ablations.py", *arguments, "--smoke", cwd=tmp_path)
    assert trial.returncode == 0, trial.stderr
    metrics = [tmp_path / "x" / f"full-{seed}" / "metrics.json" for seed in (1, 2, 3)]
    made = []
    for said in ("epoch 2/2", "is finished"):
        result = run("multi30k_ablations.py", *arguments, "--epochs", 2, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count(said) == 3
        made.append([path.stat().st_mtime_ns for path in metrics])
    assert made[0] == made[1]
    other = run("multi30k_ablations.py", *arguments, "--epochs", 1, cwd=tmp_path)
    assert other.returncode == 2
    assert "training.max_epochs: 2, now 1" in other.stderr


def test_every_ablation_is_a_training_that_the_library_accepts(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    from multi30k_ablations import VARIANTS, configure

    model, training = configure(20)
    for variant in VARIANTS.values():
        changed = ModelConfig.model_validate({**model.model_dump(), **variant.model})
        check_dropout(changed, TrainingConfig.model_validate({**training.model_dump(), **variant.training}))


def test_a_table_of_ablations_has_rows_of_the_same_training_alone(monkeypatch, tmp_path, capsys):
    """An earlier call may have made some with more epochs, and --restart made `full` anew."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    import multi30k_ablations as ablations

    plan = ablations.Plan(True, False, 8, "float32", "cpu", False, False)
    made = {}

    def load(folder):
        seed = int(folder.name[-1])
        _, training = ablations.settings(ablations.VARIANTS["input feeding"], seed, 5000, made["plan"])
        told = {"settings": json.loads(json.dumps(training.model_dump()))}
        return SimpleNamespace(metadata=SimpleNamespace(languages=made["languages"], training=told))

    monkeypatch.setattr(ablations, "is_reported", lambda folder, _: folder.parent == tmp_path)
    monkeypatch.setattr(ablations.package, "load", load)
    for languages, other, expected in [
        (("en", "de"), plan, True),
        (("de", "en"), plan, False),
        (("en", "de"), plan._replace(epochs=9), False),
        (("en", "de"), plan._replace(precision="bfloat16"), False),
        (("en", "de"), plan._replace(r_drop=True), False),
    ]:
        made.update(languages=languages, plan=other)
        assert ablations.made_before("input feeding", ("en", "de"), tmp_path, plan) is expected
        assert ("input-feeding-1 is left out of the table" in capsys.readouterr().out) is not expected
    assert not ablations.made_before("input feeding", ("en", "de"), tmp_path / "other", plan)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transformer"], "--variant must be one of full, "),
        (["R-Drop"], "--variant must be another than `full`, got R-Drop; leave it out, or say --no-r-drop"),
        (["without R-Drop", "--no-r-drop"], "--variant must be another than `full`, got without R-Drop; leave it"),
    ],
)
def test_ablations_refuse_a_wrong_variant_in_one_line(arguments, message, captions, tmp_path):
    result = run("multi30k_ablations.py", "--data", captions, "--variant", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--epochs", "many"], ["--nosuch"], ["--device"]])
def test_a_wrong_option_is_one_line(arguments, tmp_path):
    result = run("dates.py", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert arguments[0] in result.stderr
    assert result.stderr.endswith("; see dates.py --help\n")
    assert result.stderr.count("\n") == 1


def test_missing_data_is_one_line(tmp_path):
    result = run("dates.py", "--smoke", "--data", tmp_path / "nowhere", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "nowhere" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_missing_captions_are_told_how_to_get(tmp_path):
    result = run("multi30k.py", "--source", "fr", "--tokenised", "--data", tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'train.lc.norm.tok.fr.gz'} must be there")
    assert f"run python data/multi30k/prepare.py --languages fr en --tokenised --out {tmp_path} once" in result.stderr
    assert result.stderr.count("\n") == 1
    result = run("multi30k.py", "--source", "german", "--data", tmp_path, cwd=tmp_path)
    assert result.stderr == "error: --source and --target must be of de, en, fr, cs, got german\n"


def test_parallel_reads_two_files_a_table_and_json_lines(tmp_path):
    """The pairs are the same in each, so that the parts held out are, and the scores."""
    words = [(f"{one} {two}", f"{two} {one}") for one in "abcdefghij" for two in "klmnopqrst"]
    (tmp_path / "a.txt").write_text("".join(f"{source}\n" for source, _ in words))
    (tmp_path / "b.txt").write_text("".join(f"{target}\n" for _, target in words))
    (tmp_path / "pairs.tsv").write_text(
        "".join(f"{n}\t{target}\t{source}\n" for n, (source, target) in enumerate(words))
    )
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"x": {"a": a}, "b": b}) + "\n" for a, b in words))
    scores = []
    for arguments in (
        ["a.txt", "b.txt"],
        ["pairs.tsv", "--columns", 3, 2],
        ["pairs.jsonl", "--keys", "x.a", "b"],
    ):
        out = tmp_path / f"run{len(scores)}"
        result = run("parallel.py", *arguments, "--preset", "low_resource", "--smoke", "--out", out, cwd=tmp_path)
        check_result(result, out)
        scores.append(json.loads((out / "metrics.json").read_text())["scores"])
    assert scores[0] == scores[1] == scores[2]


def test_parallel_takes_validation_and_test_sets(tmp_path):
    words = [f"{one} {two}\t{two} {one}\n" for one in "abcdefghij" for two in "klmnopqrst"]
    (tmp_path / "train.tsv").write_text("".join(words[20:]))
    (tmp_path / "valid.tsv").write_text("".join(words[10:20]))
    for side, name in enumerate(("test.a", "test.b")):
        (tmp_path / name).write_text("".join(line.strip().split("\t")[side] + "\n" for line in words[:10]))
    sets = ["--validation", "valid.tsv", "--test", "test.a", "--test", "test.b"]
    options = ["--preset", "low_resource", "--smoke", "--out", "run", "--tokenize", "char", "--seed", "7"]
    options += ["--precision", "bfloat16"]
    check_result(run("parallel.py", "train.tsv", *sets, *options, cwd=tmp_path), tmp_path / "run")
    for mine, kept in (("test.a", "source"), ("test.b", "reference")):
        assert (tmp_path / "run" / "test" / f"{kept}.txt").read_text() == (tmp_path / mine).read_text()
    training = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert training["settings"]["seed"] == 7
    assert training["settings"]["precision"] == "bfloat16"
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"]
    assert "|tok:char|" in training["validation"]["bleu"]
    assert "|tok:char|" in scores["bleu"]["signature"]
    assert {name: part["pairs"] for name, part in training["data"].items()} == {"training": 80, "validation": 10}
    for one, other in ((sets[:2], "--validation"), (sets[2:], "--test")):
        result = run("parallel.py", "train.tsv", *one, *options, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr == (
            f"error: --validation and --test go together, got {other} alone; give both, or neither\n"
        )


def test_parallel_refuses_three_files_in_one_line(tmp_path):
    result = run("parallel.py", "a", "b", "c", "--smoke", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: give one place or two files, got 3")
    assert result.stderr.count("\n") == 1


def test_parallel_refuses_too_few_pairs_in_one_line(tmp_path):
    (tmp_path / "pairs.tsv").write_text("a\tb\n" * 3)
    result = run("parallel.py", "pairs.tsv", "--smoke", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: pairs.tsv has too few different sentences to hold some out, 3; give hundreds\n"


@pytest.mark.parametrize("out", ["file", "file/in/it"])
@pytest.mark.parametrize("recipe", ["parallel.py", "dates.py"])
def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_read(recipe, out, tmp_path):
    (tmp_path / "file").write_text("kept")
    result = run(recipe, *(["nowhere.tsv"] if recipe == "parallel.py" else []), "--out", out, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"error: --out must be a folder, got {out}, and {tmp_path}/file is a file; choose another\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-tokens", ""], "batch_tokens must be a number of at least 1, or 'auto', got ''"),
        (["--device", "foo"], "device must be one of "),
        (["--precision", "half"], "Invalid value for '--precision': 'half' is not one of 'float32', 'bfloat16'; see"),
        (["--devices", 0], "devices and nodes must be at least 1, got 0 and 1"),
        (
            ["--epochs", "a"],
            "Invalid value for '--epochs': Input should be a valid integer, unable to parse string as an integer, "
            "got 'a'; see",
        ),
        (["--epochs", 0], "TrainingConfig.max_epochs must be greater than or equal to 1, got 0"),
        (["--wandb", " "], "--wandb needs the "),
        (["--tokenize", "foo"], "tokenize must be one of none, "),
        (["--source-vectors", "missing.vec"], "missing.vec: "),
        (["--symbol", "a b"], "a symbol must be a text without spaces, got 'a b'"),
        (
            ["--symbol", "<2de>", "--from", "x"],
            "--from brings its vocabulary and embeddings, got --symbol or vectors too",
        ),
        (["--languages", "de", "--smoke"], "--languages takes two names, source and target, got de --smoke"),
    ],
)
def test_parallel_tells_a_wrong_flag_before_it_reads(arguments, message, tmp_path):
    """The text is not even there."""
    result = run("parallel.py", "nowhere.tsv", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("blank", ["--validation", "--test"])
def test_parallel_refuses_blank_sets_before_it_reads_the_others(blank, tmp_path):
    (tmp_path / "train.tsv").write_text("a\tb\n" * 3)
    (tmp_path / "blank.tsv").write_text(" \tb\na\t\n" * 3)
    sets = {"--validation": "train.tsv", "--test": "train.tsv", blank: "blank.tsv"}
    result = run("parallel.py", "train.tsv", *(word for pair in sets.items() for word in pair), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "error: blank.tsv: must have a pair with text on both sides, got blank ones alone; give other text\n"
    )
    assert not (tmp_path / "runs").exists()


def test_no_recipe_hides_a_module_of_python():
    """A script's own folder comes first on Python's path: with a `numbers.py` there, `import numbers` finds that."""
    assert not {path.stem for path in (started.ROOT / "recipes").glob("*.py")} & set(sys.stdlib_module_names)


def test_a_recipe_begins_with_another_model(tmp_path):
    """A second training on other text takes the first one's vocabulary and weights; another model is refused."""
    for name, letters in (("first", "abcdefghij"), ("second", "jihgfedcba")):
        pairs = [f"{one} {two}\t{two} {one}\n" for one in letters for two in "klmnopqrst"]
        (tmp_path / f"{name}.tsv").write_text("".join(pairs))
    options = ["--preset", "tiny", "--smoke"]
    check_result(run("parallel.py", "first.tsv", *options, "--out", "one", cwd=tmp_path), tmp_path / "one")
    again = ["parallel.py", "second.tsv", *options, "--from", "one", "--out", "two"]
    check_result(run(*again, cwd=tmp_path), tmp_path / "two")
    assert (tmp_path / "one" / "source.model").read_bytes() == (tmp_path / "two" / "source.model").read_bytes()
    result = run(
        "parallel.py", "second.tsv", "--preset", "small", "--smoke", "--from", "one", "--out", "x", cwd=tmp_path
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: one: its model must be built like that of this training, got encoder_")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "tested"), [("simple", 4182), ("length", 3920), ("add_prim_turn_left", 1208), ("add_prim_jump", 7706)]
)
def test_splits_of_scan_hold_out_what_they_say(name: str, tested: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = Path(__file__).parent.parent / "recipes"
    monkeypatch.syspath_prepend(recipes)
    scan = importlib.import_module("scan")
    pairs = list(read_tsv(recipes.parent / "data" / "scan" / "commands.tsv.gz"))
    train, validation, test = scan.divide(pairs, scan.Split(name))
    sys.modules.pop("scan")
    assert (len(validation), len(test)) == (500, tested)
    assert {*train, *validation, *test} == set(pairs)
    assert not {*train, *validation}.intersection(test)
    assert not set(train).intersection(validation)
    if name == "simple":
        return
    if name == "length":
        assert max(len(actions.split()) for _, actions in [*train, *validation]) <= 22
        assert min(len(actions.split()) for _, actions in test) > 22
        return
    primitive = name.removeprefix("add_prim_").replace("_", " ")
    learnt = [command for command, _ in train if primitive in command]
    assert set(learnt) == {primitive}
    assert len(learnt) / len(train) == pytest.approx(0.1, abs=0.01)
    assert all(primitive in command and command != primitive for command, _ in test)
