"""The command line: `seq2seq translate | evaluate | score | info`."""

import signal
import sys


def main() -> None:
    """Run the command that `sys.argv` holds; Ctrl-C ends it quietly with 130, from its first moment on."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    # Imported under the handler, because importing takes a while.
    from seq2seq.cli.app import run

    run(sys.argv[1:])
