"""What `config.json` says, and the model card."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

from seq2seq.config import Config, ModelConfig
from seq2seq.errors import ConfigError, PackageError

FORMAT: Final = "seq2seq"
FORMAT_VERSION: Final = 1


class FileFacts(Config):
    """By these a file is known to be whole, and to belong to the others."""

    size: int
    """Bytes."""
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> FileFacts:
        return cls(size=len(content), sha256=hashlib.sha256(content).hexdigest())


class Metadata(Config):
    """The content of `config.json`."""

    format: Literal["seq2seq"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    library: str
    """Name and version of what wrote the folder."""
    languages: tuple[str, str]
    """Of source and target."""
    joint: bool
    """One vocabulary for both sides, in `source.model`."""
    model: ModelConfig
    training: dict[str, Any]
    """Epochs, steps, scores and settings of the training."""
    files: dict[str, FileFacts]

    def to_bytes(self) -> bytes:
        """The content of `config.json`. Names of files need not be text: JSON has an escape for the bytes of one."""
        return self.to_json().encode(errors="backslashreplace")

    def to_json(self) -> str:
        return json.dumps(_finite(self.model_dump()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: bytes, place: str) -> Metadata:
        """Read `config.json`.

        Raises:
            PackageError: if it is truncated, of another program, or of a later version of this one.
        """
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise PackageError(f"{place}: is not whole ({error}); copy the model folder again") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise PackageError(f"{place}: was not written by seq2seq; give a folder that one of its recipes made")
        if values.get("format_version") != FORMAT_VERSION:
            raise PackageError(
                f"{place}: format version must be {FORMAT_VERSION}, got {values.get('format_version')}; "
                "install the version of seq2seq-lightning that wrote it, or a newer one"
            )
        try:
            return cls(**values)
        except (ConfigError, TypeError) as error:
            raise PackageError(f"{place}: cannot be used ({error}); copy the model folder again") from None


def _finite(value: Any) -> Any:
    """JSON has no word for infinity and NaN; they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _told(name: str, value: Any) -> str:
    """A figure in a card; a score names itself."""
    if isinstance(value, str):
        return value
    return f"{name} = {value:.4f}" if isinstance(value, float) else f"{name} = {value}"


def model_card(metadata: Metadata, parameters: int) -> str:
    """The folder's README, for people."""
    source, target = metadata.languages
    direction = f"{source} → {target}" if source and target else "source → target"
    config = metadata.model
    attention = f"{config.attention}, twice" if config.output_attention else config.attention
    lines = [
        f"# {direction}",
        "",
        f"A recurrent encoder-decoder of {parameters:,} parameters ({config.cell}, attention: {attention}), "
        f"made with {metadata.library}.",
        "",
        "    seq2seq translate THIS_FOLDER < input.txt > output.txt",
        "",
        "```python",
        "import seq2seq",
        "",
        'translator = seq2seq.Translator.load("THIS_FOLDER")',
        'translator.translate("a sentence")',
        "```",
        "",
    ]
    return "\n".join(lines + _training_lines(metadata.training))


def _training_lines(training: Mapping[str, Any]) -> list[str]:
    """What is known about the training: on what, for how long, how well, and how to repeat it."""
    lines = []
    validation, data, total = (training.get(key) for key in ("validation", "data", "total"))
    if isinstance(validation, Mapping):
        lines += ["Validation while training:", "", *(f"- {_told(*item)}" for item in validation.items()), ""]
    if isinstance(data, Mapping):
        lines += ["Trained and validated on:", ""]
        lines += [
            f"- {part}: {facts['text']}, {facts['pairs']:,} pairs, "
            f"{facts['source tokens']:,} + {facts['target tokens']:,} tokens"
            for part, facts in data.items()
        ]
        lines.append("")
    if "steps" in training and "epochs" in training:
        told = f"Trained for {_duration(training)} until this model was reached"
        told += f"; {_duration(total)} in all" if isinstance(total, Mapping) else ""
        lines += [f"{told}{', on ' + training['machine'] if training.get('machine') else ''}.", ""]
    if averaged := training.get("averaged"):
        lines += [f"Its weights are the mean of those of {len(averaged)} models: {', '.join(averaged)}.", ""]
    if training.get("command"):
        lines += ["The command that repeats it:", "", f"    {training['command']}", ""]
    if training.get("curves"):
        lines += [f"![How the training went]({training['curves']})", ""]
    return lines


def _duration(facts: Mapping[str, Any]) -> str:
    minutes = f" ({facts['minutes']} minutes)" if "minutes" in facts else ""
    return f"{facts['steps']:,} steps, the last in epoch {facts['epochs']}{minutes}"
