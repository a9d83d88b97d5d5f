"""`seq2seq info`: what a model folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from seq2seq.cli.options import AsJson, Model
from seq2seq.cli.output import print_out


def info(model: Model, as_json: AsJson = False) -> None:
    """Say what a model folder holds."""
    from seq2seq import package

    found = package.load(model)
    metadata = found.metadata.model_dump()
    parameters = sum(part.numel() for part in found.model.parameters())
    if as_json:
        counts = {"parameters": parameters, "lexicon_fault": found.lexicon_fault or None}
        print_out(json.dumps({**metadata, **counts}, ensure_ascii=False))
        return
    sizes = f"{len(found.source_vocabulary):,} source, {len(found.target_vocabulary):,} target"
    rows = {
        "languages": " → ".join(language or "?" for language in metadata["languages"]),
        "written by": metadata["library"],
        "parameters": f"{parameters:,}",
        "vocabulary": f"{len(found.source_vocabulary):,} joint" if metadata["joint"] else sizes,
        "lexicon": found.lexicon_fault or "none",
        **_flat({"model": metadata["model"], "training": metadata["training"]}),
    }
    if found.lexicon is not None:
        rows["lexicon"] = f"{len(found.lexicon.always):,} tokens on every list"
    width = max(map(len, rows))
    for name, value in rows.items():
        print_out(f"{name:<{width}}  {value}")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values in one dictionary, by names with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            {f"{name}.{key}": item for key, item in _flat(value).items()} if isinstance(value, dict) else {name: value}
        )
    return flat
