"""The command line: `seq2seq translate | evaluate | score | score-pairs | info | lexicon | average | check-data`.

app             the commands; begin here
translate       translate and evaluate; score, score_pairs, info, lexicon, average, check_data: one command each
options         the options that several of them share; flags: those of the recipes
running         how a command or recipe is run: a user's mistake is one line and exit code 2
lines           lines in and out
work            what becomes of a block of lines, in one process or in several
together        several processes that share the work; predicting, worker: what each of them does
"""

import signal
import sys


def main() -> None:
    """Run the command that `sys.argv` holds; Ctrl-C ends it quietly, from its first moment on."""
    # By the system, at once: Python would not hear it while it waits for a line, if it came just before; an exception
    # can be swallowed by a module that is being imported; and a shell's loop ends with what a signal has ended (to the
    # shell it is exit code 130). Nothing is lost: what was written is out of our hands.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # What is ignored, in the background, stays so.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imported under the handler, because importing takes a while.
    from seq2seq.cli.app import run

    run(sys.argv[1:])
