"""Page "Workers": how the workers of a run spend their time, and what limits it."""

from __future__ import annotations

from regatta.dashboard import components, run_pages


def main() -> None:
    """The workers of one run, live or as they were."""
    record = run_pages.any_run(
        "Workers", "How each worker spends its time is shown here, and what limits the run."
    )
    if record is not None:
        components.crew_view(record)


main()
