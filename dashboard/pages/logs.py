"""Page "Logs": what the processes of a run have logged."""

from __future__ import annotations

from regatta.dashboard import components, run_pages


def main() -> None:
    """The log of one run, with filters, as it grows."""
    record = run_pages.any_run("Logs", "What the processes of a run log is shown here.")
    if record is not None:
        components.log_view(record)


main()
