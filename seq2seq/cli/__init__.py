"""The command line: `seq2seq translate | evaluate | score | score-pairs | info | lexicon | average | check-data`."""

import os
import signal
import sys


def main() -> None:
    """Run the command that `sys.argv` holds; Ctrl-C ends it quietly with 130, from its first moment on."""
    # At once, because an exception can be swallowed by a module that is just being imported, and because torch takes a
    # second to clean up. Nothing is lost: what was written is out of our hands.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # Imported under the handler, because importing takes a while.
    from seq2seq.cli.app import run

    run(sys.argv[1:])
