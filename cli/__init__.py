"""The command ``regatta``.

::

    main ── arguments.py ──▶ train.py, runs.py, files.py, baseline.py, tools.py, …
        (what may be typed)      └──▶ output.py, progress.py (what is seen)

Imports the standard library only, and little of it: every worker process that a command starts
imports this module again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

DEBUG_VARIABLE = "REGATTA_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 is success, 1 a failure, 2 a user's mistake, 130 and 143 follow a signal.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["bench"]:
        words.insert(1, "--")  # all that follows is for the benchmark, options too
    try:
        return _main(words)
    except KeyboardInterrupt:  # while modules are imported, too
        from regatta.cli import output

        output.say_aside("Interrupted.")
        return 130


def _main(words: Sequence[str]) -> int:
    from regatta.utils import end_process, limit_blas_threads

    limit_blas_threads()  # before anything imports NumPy
    try:
        try:
            code = _run(words)
        finally:
            sys.stdout.flush()
        end_process(code)
        return code
    except BrokenPipeError:
        # The reader has gone (`regatta runs | head`): that is no failure, and not to be told
        # again when Python closes its streams.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: Sequence[str]) -> int:
    from regatta.cli import output
    from regatta.cli.arguments import make_parser
    from regatta.utils import RegattaError

    as_json = "--json" in words
    try:
        chosen = make_parser().parse_args(words)
        output.configure_log()
        return int(chosen.action(chosen))
    except RegattaError as error:
        output.show_error(error, as_json=as_json)
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:
        output.show_error(output.unexpected(error), as_json=as_json)
        return 1
