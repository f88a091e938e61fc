"""The command line: one module per kind of command; the work is done elsewhere.

``parser.py`` defines commands and options; ``serving.py``, ``asking.py``, ``authoring.py`` and
``looking.py`` run them. A user's mistake ends in one line and exit code 2, never in a traceback.
Heavy imports are late, so that ``modelyard --help`` is fast.
"""

from __future__ import annotations

import os
import signal
import sys

from modelyard.cli.mistakes import MISTAKES, USAGE_ERROR, complain
from modelyard.cli.parser import make_parser, parse

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (console script ``modelyard``)."""
    typed = sys.argv[1:] if arguments is None else arguments
    if not typed:
        make_parser().print_help()
        sys.exit(USAGE_ERROR)
    options = parse(typed)
    try:
        code: int | None = options.run(options)
        if sys.stdout is not None:  # None: closed
            sys.stdout.flush()  # here, where a reader that has left can still be handled
    except MISTAKES as error:
        sys.exit(complain(str(error)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as a shell counts it
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        sys.exit(code)
