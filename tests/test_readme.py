"""The READMEs are held to their word: their Python runs, their commands and files exist, the tree is the tree."""

import re
import shlex
from functools import cache

import pytest
import started
from started import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = README + (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGES, flags=re.MULTILINE | re.DOTALL)
# In a console block a line after "$ " is typed and the others are answers; in a bash block all lines are typed.
TYPED = [
    line.removeprefix("$ ")
    for language, text in BLOCKS
    for line in text.splitlines()
    if (language == "console" and line.startswith("$ ")) or (language == "bash" and line)
]
COMMANDS = list(map(shlex.split, dict.fromkeys(part for line in TYPED for part in re.split(r"\s*(?:&&|\|)\s*", line))))


def test_there_is_something_to_check():
    assert {language for language, _ in BLOCKS} >= {"bash", "console", "python", "text"}
    assert any(words[0] == "seq2seq" for words in COMMANDS)
    assert "<!-- ci: test -->" in README


def options_of(help_text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[\w-]+", help_text))


@cache
def help_of(*words: str) -> str:
    """The help of `seq2seq words` or of a script, plain and wide enough that no option is cut."""
    script, *command = words if words[0].endswith(".py") else ("seq2seq/__main__.py", *words)
    result = started.run(script, *command, "--help", cwd=ROOT, COLUMNS="200", TERM="dumb", NO_COLOR="1")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "seq2seq"], ids=" ".join)
def test_a_seq2seq_command_exists_with_its_options(words):
    if words[1:] == ["--help"]:
        return
    known = options_of(help_of(words[1]))
    assert {word for word in words[2:] if word.startswith("-")} <= known


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "python" and words[1].endswith(".py")], ids=" ".join
)
def test_a_script_exists_with_its_options(words):
    known = options_of(help_of(words[1]))
    assert {word for word in words[2:] if word.startswith("-")} <= known


def test_no_other_command_is_shown():
    known = {
        "seq2seq",
        "python",
        "python3",
        "pip",
        ".",
        "pytest",
        "echo",
        "gzip",
        "head",
        "cut",
        "cat",
        "sed",
        "torchrun",
    }
    assert {words[0] for words in COMMANDS} <= known


def test_the_tree_is_the_tree():
    tree = next(text for language, text in BLOCKS if language == "text")
    folder, shown = "", set()
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else ""
        assert (ROOT / folder / name).exists(), f"{folder}{name} does not exist"
        shown.add(f"{folder}{name}".rstrip("/"))
        folder = name if name.endswith("/") and not line.startswith(" ") else folder
    for module in (ROOT / "seq2seq").glob("[a-z]*"):
        if module.suffix == ".py" or (module / "__init__.py").exists():
            assert f"seq2seq/{module.name}" in shown, f"seq2seq/{module.name} is not in the README's tree"
    for recipe in (ROOT / "recipes").glob("*.py"):
        assert f"recipes/{recipe.name}" in shown, f"recipes/{recipe.name} is not in the README's tree"


@pytest.fixture(scope="module")
def folder_with_a_model(tmp_path_factory):
    """A folder in which `runs/dates` is a model, trained for two steps."""
    folder = tmp_path_factory.mktemp("readme")
    result = started.run("recipes/dates.py", "--smoke", "--device", "cpu", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "python"])
def test_python_runs(text, folder_with_a_model, capsys, monkeypatch):
    """What it prints was learnt by a whole training, and is not compared."""
    monkeypatch.chdir(folder_with_a_model)
    exec(compile(text, "README.md", "exec"), {})
    assert capsys.readouterr().out
