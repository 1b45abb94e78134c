"""Entry point of a coordinator process.

    python -P -m regatta.runs.coordinate RUN_ID           trains the run
    python -P -m regatta.runs.coordinate --wait SOCKET    imports, then waits to be given one

Imports the standard library only: every worker process runs its parent's entry module again.
"""

import sys


def main() -> int:
    """Train the run; the exit code is 0 when it came to an end of its own, whichever."""
    from regatta.utils import RegattaError, configure_logging, home, limit_blas_threads

    limit_blas_threads()
    from regatta.coordinator import run_training
    from regatta.runs.spare import await_run
    from regatta.runs.store import RunStore

    run_id = await_run(int(sys.argv[2])) if sys.argv[1] == "--wait" else sys.argv[1]
    if run_id is None:
        return 0
    configure_logging()
    try:
        run_training(run_id, RunStore(home()))
    except RegattaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    from regatta.utils import end_process

    end_process(code)
    sys.exit(code)
