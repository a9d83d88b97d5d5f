"""What can be added to a model folder after training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seq2seq.errors import PackageError
from seq2seq.lexicon import FREQUENT, Lexicon
from seq2seq.package.folder import CARD, StrPath, load, save


def add_lexicon(folder: StrPath, text: Iterable[tuple[str, str]], *, frequent: int = FREQUENT) -> Lexicon:
    """Learn a lexicon and keep it in a model folder, for `SearchConfig.shortlist`; all else there stays.

    Args:
        folder: a model folder.
        text, frequent: see `Lexicon.learn`; the text that the model was trained on.

    Raises:
        PackageError: if it is no model folder, cannot be written, or becomes another model's meanwhile.
        CorpusError: if the text cannot be used.
    """
    found = load(folder)
    source, target = found.source_vocabulary, found.target_vocabulary
    del found  # the model need not be held meanwhile
    lexicon = Lexicon.learn(text, source, target, frequent=frequent)
    # That took a while, in which a training may have found a better model.
    now = load(folder)
    for before, after in ((source, now.source_vocabulary), (target, now.target_vocabulary)):
        if before.fingerprint != after.fingerprint:
            raise PackageError(f"{folder}: got other vocabularies while a lexicon for it was learnt; learn it again")
    card = Path(folder) / CARD
    save(
        folder,
        now.model,
        now.source_vocabulary,
        now.target_vocabulary,
        languages=now.metadata.languages,
        training=now.metadata.training,
        card=card.read_text(encoding="utf-8") if card.exists() else None,
        lexicon=lexicon,
    )
    return lexicon
