"""The page's own components: live views, waits, drop zone, chart, table of columns, download link.

Each is a script and a style sheet in ``static/``; text that comes from data reaches the browser as
data and is set as text there, never as HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import streamlit as st

from regatta.dashboard import settings
from regatta.dashboard.jobs import Job
from regatta.runs.store import RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # slow to import, and few pages have one

STATIC = Path(__file__).resolve().parent / "static"


def _register(name: str, *parts: str, style: bool = True, sheets: Sequence[str] = ()) -> Any:
    """The component of ``name.js`` and ``name.css``; ``parts`` are scripts that it stands on, and
    ``sheets`` style sheets."""
    script = "\n".join(
        (STATIC / f"{part}.js").read_text(encoding="utf-8") for part in ("shared", *parts, name)
    )
    css = "\n".join(
        (STATIC / f"{sheet}.css").read_text(encoding="utf-8")
        for sheet in (*sheets, *([name] if style else []))
    )
    # Plotly writes its styles into the document's head: a shadow root would not see them.
    return st.components.v2.component(
        f"regatta_{name}", css=css or None, js=script, isolate_styles=False
    )


_live = _register("live", "polled", "figures")
_job = _register("job", "progress", style=False, sheets=["progress"])
_watch = _register("watch", style=False)
_upload = _register("upload", "progress", sheets=["progress"])
_chart = _register("chart", style=False)
_download = _register("download")
_columns = _register("columns")
_workers = _register("workers", "polled", sheets=["live"])
_logs = _register("logs", "polled", sheets=["live"])


def _nothing() -> None:
    """A state or trigger exists only where it has a callback."""


def live_view(record: RunRecord) -> None:
    """Draw a run as it is and as it goes on; the script runs again when its state, or the number of
    its workers, changes."""
    _live(
        key=f"live-{record.run_id}",
        data={"run_id": record.run_id, "state": str(record.state), "stands": record.stands},
        on_state_change=_nothing,
    )


def crew_view(record: RunRecord) -> None:
    """Draw the workers of a run as they are and as they go on; the script runs again as for a
    `live_view`."""
    _workers(key=f"crew-{record.run_id}", data=_about(record), on_state_change=_nothing)


def log_view(record: RunRecord) -> None:
    """Show the log of a run as it grows; the script runs again when the run's state changes."""
    _logs(key=f"log-{record.run_id}", data=_about(record), on_state_change=_nothing)


def _about(record: RunRecord) -> dict[str, str]:
    return {"run_id": record.run_id, "state": str(record.state), "stands": record.stands}


def wait_for(job: Job, text: str, *, cancel: bool = False, brief: bool = False) -> None:
    """A progress bar for a job, with a button to ``cancel`` it where it heeds that; the script runs
    again when the job has ended. A ``brief`` one, beside another of the same job, has one line."""
    _job(
        key=f"job-{job.job_id}-{brief}",
        data={
            "job_id": job.job_id,
            "text": text,
            "brief": brief,
            "can_cancel": cancel,
            "status": job.progress(),
        },
        on_ended_change=_nothing,
    )


def watch(key: str, path: str, tag: str, *, seconds: float) -> None:
    """Run the script, or the fragment that this stands in, again when ``GET path`` answers with
    another ``tag``; it is asked every so many ``seconds``."""
    _watch(
        key=key,
        data={"path": path, "tag": tag, "seconds": seconds},
        on_changed_change=_nothing,
        height=1,
    )


def upload_zone(key: str, *, title: str, hint: str) -> dict[str, Any] | None:
    """A drop zone. Returns ``{"id", "name", "size"}`` in the run after a file has arrived."""
    result = _upload(
        key=key,
        data={"title": title, "hint": hint, "limit": settings.upload_limit()},
        on_uploaded_change=_nothing,
    )
    uploaded = result.uploaded
    return dict(uploaded) if uploaded else None


def chart(
    key: str,
    traces: Sequence[Mapping[str, Any]],
    layout: Mapping[str, Any],
    *,
    label: str,
    height: int,
    on_click: Callable[[int], None] | None = None,
) -> None:
    """A Plotly chart in the page's theme. Colours: "@training", "@validation", "@quiet", and
    "@series-0" to "@series-5" where several of a kind are told apart. ``on_click`` is told the
    ``customdata`` of a point, a number."""

    def clicked() -> None:
        key_of_point = st.session_state[key].get("clicked")
        if on_click is not None and key_of_point is not None:
            on_click(int(key_of_point))

    _chart(
        key=key,
        data={
            "traces": [dict(each) for each in traces],
            "layout": dict(layout),
            "label": label,
            "height": height,
            "clickable": on_click is not None,
        },
        on_clicked_change=clicked,
    )


def figure(key: str, drawn: Figure, *, label: str, height: int) -> None:
    """A chart from a Plotly figure, in the page's theme instead of the figure's template."""
    plain = drawn.to_plotly_json()
    plain["layout"].pop("template", None)
    chart(key, plain["data"], plain["layout"], label=label, height=height)


def columns_table(
    key: str, rows: Sequence[Mapping[str, Any]], *, on_change: Callable[[Mapping[str, Any]], None]
) -> None:
    """A table of columns. ``on_change`` is told ``{"name", "used"}`` or ``{"name", "kind"}``."""

    def changed() -> None:
        change = st.session_state[key].get("changed")
        if change:
            on_change(change)

    _columns(key=key, data={"rows": [dict(each) for each in rows]}, on_changed_change=changed)


def download(key: str, label: str, *path: str, name: str, help: str = "") -> None:
    """A button that downloads ``/api/<path>``; the file never passes through the session."""
    href = "/api/" + "/".join(quote(part, safe="") for part in path)
    _download(key=key, data={"label": label, "href": href, "name": name, "help": help})
