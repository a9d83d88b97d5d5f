"""What takes its time is shown on a terminal, and changes nothing."""

import io
import sys

import pytest

from seq2seq.corpus import watching
from seq2seq.corpus.watching import waited, watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
@pytest.mark.parametrize("number", [0, 3, 4, 10])
def test_pairs_are_counted_on_a_terminal_when_there_are_many(stream, number, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := stream())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(watching, "SOON", 3)
    assert list(watched(range(number), "Reading a[/b].de", 10)) == list(range(number))
    with waited("Learning [a]"):
        pass
    assert ("Reading a[/b].de" in shown.getvalue()) == (stream is Terminal and number > 3)
    assert ("Learning [a] ..." in shown.getvalue()) == (stream is Terminal)


def test_few_pairs_are_not_worth_a_word(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    assert list(watched("abc", "Reading")) == ["a", "b", "c"]
    assert shown.getvalue() == ""
