"""The READMEs are held to their word: their Python runs, their commands and files exist, the tree is the tree."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
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


def help_of(*command: str) -> str:
    """The help of a command, plain and wide enough that no option is cut."""
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    options = {"capture_output": True, "text": True, "env": environment, "cwd": ROOT}
    result = subprocess.run([*command, "--help"], check=False, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "seq2seq"], ids=" ".join)
def test_a_seq2seq_command_exists_with_its_options(words):
    if words[1:] == ["--help"]:
        return
    known = options_of(help_of(sys.executable, "-m", "seq2seq", words[1]))
    assert {word for word in words[2:] if word.startswith("-")} <= known


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "python" and words[1].endswith(".py")], ids=" ".join
)
def test_a_script_exists_with_its_options(words):
    known = options_of(help_of(sys.executable, words[1]))
    assert {word for word in words[2:] if word.startswith("-")} <= known


def test_no_other_command_is_shown():
    known = {"seq2seq", "python", "python3", "pip", ".", "pytest", "echo", "gzip", "head", "cut", "torchrun"}
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
    recipe = [sys.executable, ROOT / "recipes" / "dates.py", "--smoke", "--device", "cpu"]
    subprocess.run(recipe, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "python"])
def test_python_runs(text, folder_with_a_model, capsys, monkeypatch):
    """What it prints was learnt by a whole training, and is not compared."""
    monkeypatch.chdir(folder_with_a_model)
    exec(compile(text, "README.md", "exec"), {})
    assert capsys.readouterr().out
