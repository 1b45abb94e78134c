"""The routes that stand beside the page on its port.

GET  /api/health                      can the server do its work
POST /api/upload?name=…               a file, streamed to disk as it comes
GET  /api/runs/<id>/live?since=…      what a live view has not seen yet
GET  /api/runs/<id>/workers?since=…   the same for the page of the workers
GET  /api/runs/<id>/log?before=…      its log from the end, filtered; ?after=… what has come
GET  /api/runs/<id>/log/file          the whole of it
GET  /api/runs/<id>/model             the trained model, as JSON
GET  /api/runs/<id>/outliers          the held-out rows with the largest residuals, as CSV
POST /api/runs/<id>/workers/<rank>/kill?incarnation=…    end a worker, to see it replaced
GET  /api/changes[?run=<id>&run=…]    a text that changes with the list of runs, or with those runs
GET  /api/jobs/<id>                   how far a job of the page is
POST /api/jobs/<id>/cancel            ask it to end
GET  /api/jobs/<id>/result[/<name>]   the file that a job of the page made, or one of them
GET  /assets/<name>                   vendored scripts
GET  /metrics                         Prometheus text
GET  /data, /new, /runs …             Streamlit's frame, told where its own routes are
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import pkgutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    Response,
)
from starlette.routing import Route

from regatta import dashboard
from regatta.dashboard import crew_view, frame, jobs, live, log_view, prometheus, uploads
from regatta.dashboard import health as health_check
from regatta.dashboard.security import NotFound, failure, guarded, guarded_async
from regatta.runs import service
from regatta.runs.directory import RunDirectory
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.utils import RegattaError, UserError, configure_logging, finite, home

STATIC = Path(__file__).resolve().parent / "static"
# Served names carry the version, so a browser may keep them for good.
ASSETS = {"plotly-cartesian-4.1.1.min.js": "text/javascript"}
FOREVER = "public, max-age=31536000, immutable"
MAX_CONCURRENT_UPLOADS = 4
DRAINED_BYTES = 256_000_000

# The pages beside the first one, by their path.
PAGE_PATHS = ("data", "new", "workers", "runs", "explain", "predict", "logs")

_uploading = asyncio.Semaphore(MAX_CONCURRENT_UPLOADS)


def health(request: Request) -> Response:
    """``{"status": "ok"}`` while runs can be written down and started; else 503 and why not."""
    try:
        answer, status = health_check.look(), 200
    except RegattaError as error:
        why = {"message": error.message, "hint": error.hint}
        answer, status = {"status": "failing", "error": why}, 503
    return JSONResponse(answer, status_code=status, headers={"Cache-Control": "no-store"})


async def upload(request: Request) -> Response:
    """Store the body under a name of ours and answer with its id."""
    if _uploading.locked():
        return failure(429, "Too many uploads at once.", "Wait until one of them has ended.")
    length = request.headers.get("content-length", "")
    async with _uploading:
        try:
            uploads.check_room(int(length) if length.isdecimal() else None)
            stored = await uploads.store(
                request.query_params.get("name", "upload.csv"), request.stream()
            )
        except uploads.UploadTooLarge as error:
            await _drain(request)
            return failure(413, error.message, error.hint)
        except uploads.TooManyUploads as error:
            return failure(429, error.message, error.hint)
        except ClientDisconnect:
            return failure(400, "The upload was broken off.", "Try it again.")
    return JSONResponse({"id": stored.upload_id, "name": stored.name, "size": stored.size})


def live_view(request: Request) -> Response:
    """News of a run since a cursor; 304 when there are none."""
    store, directory = RunStore(home()), _run_directory(request)
    record = store.get(directory.run_id)
    if record.state is RunState.QUEUED:
        service.nudge(store)  # the supervisor may have been killed while runs wait
    tag = f'"{live.version(record, directory)}"'
    since = live.Cursor.parse(request.query_params.get("since"))
    headers = {"ETag": tag, "Cache-Control": "no-store"}
    if request.query_params.get("tag") == tag.strip('"') and since.attempt >= 0:
        return Response(status_code=204, headers=headers)
    update = live.live_update(record, directory, since)
    return JSONResponse(finite({**update, "tag": tag.strip('"')}), headers=headers)


def crew(request: Request) -> Response:
    """News of a run's workers since a cursor; 204 when there are none."""
    directory = _run_directory(request)
    record = RunStore(home()).get(directory.run_id)
    tag = live.version(record, directory)
    headers = {"Cache-Control": "no-store"}
    since = live.Cursor.parse(request.query_params.get("since"))
    if request.query_params.get("tag") == tag and since.attempt >= 0:
        return Response(status_code=204, headers=headers)
    update = crew_view.crew_update(record, directory, since)
    return JSONResponse(finite({**update, "tag": tag}), headers=headers)


def log(request: Request) -> Response:
    """Entries of a run's log: the newest, those before a cursor, or what has come after one."""
    directory, asked = _run_directory(request), request.query_params
    record = RunStore(home()).get(directory.run_id)
    files = log_view.sources(directory, home())
    wanted = log_view.Wanted(
        level=asked.get("level", ""), process=asked.get("process", ""), text=asked.get("text", "")
    )
    headers = {"Cache-Control": "no-store"}
    if "after" in asked:
        found = log_view.follow(files, wanted, asked["after"])
        if found is None and asked.get("stands") == record.stands:
            return Response(status_code=204, headers=headers)
    else:
        found = log_view.tail(files, wanted, asked.get("before", ""))
    state = {"state": str(record.state), "stands": record.stands}
    return JSONResponse({**(found or {}), **state}, headers=headers)


def log_file(request: Request) -> Response:
    """A whole file of a run's log as a download."""
    directory = _run_directory(request)
    source = log_view.find_source(
        log_view.sources(directory, home()), request.query_params.get("process", "")
    )
    if source is None or source.about:  # the supervisor's is about other runs too
        raise NotFound("There is no such log.", "It begins with the run.")
    return _download(source.path, f"{directory.run_id}-{source.path.name}", "text/plain")


def model(request: Request) -> Response:
    """The trained model as a download."""
    directory = _run_directory(request)
    if not directory.model.is_file():
        raise NotFound("This run has no model yet.", "It is written when the training ends.")
    return _download(directory.model, f"{directory.run_id}-model.json", "application/json")


def kill_worker(request: Request) -> Response:
    """Let the coordinator of a live run kill one of its own workers; the server kills nothing."""
    directory, rank = _run_directory(request), request.path_params["rank"]
    incarnation = request.query_params.get("incarnation", "")
    if not (incarnation.isascii() and incarnation.isdecimal()):
        return failure(400, "Which worker is meant was not said.", "Give its incarnation.")
    service.kill_worker(directory.run_id, rank, int(incarnation), store=RunStore(home()))
    return JSONResponse({"killed": rank})


def outliers(request: Request) -> Response:
    """The held-out rows with the largest residuals, as a CSV."""
    from regatta.explain import residuals

    directory = _run_directory(request)
    found = residuals.kept_summary(directory)
    if found is None:
        raise NotFound("The errors of this run are not known.", "Open its page Explain first.")
    name = f"{directory.run_id}-largest-residuals.csv"
    return Response(
        residuals.outliers_csv(found),
        media_type="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


def changes(request: Request) -> Response:
    """What a page that shows several runs compares with what it knows."""
    tag = live.version_of_runs(RunStore(home()), request.query_params.getlist("run"))
    return JSONResponse({"tag": tag}, headers={"Cache-Control": "no-store"})


def job_progress(request: Request) -> Response:
    """How far a job is."""
    try:
        job = jobs.find(request.path_params["job_id"])
    except UserError as error:
        raise NotFound(error.message, error.hint) from None
    return JSONResponse(job.progress(), headers={"Cache-Control": "no-store"})


def cancel_job(request: Request) -> Response:
    """Ask a job to end."""
    job = jobs.find(request.path_params["job_id"])
    job.cancel()
    return JSONResponse({"cancelled": job.is_cancelled})


def job_result(request: Request) -> Response:
    """The file that a job made, as a download."""
    job = jobs.find(request.path_params["job_id"])
    path = job.result_file(request.path_params.get("name", ""))
    if path is None:
        raise NotFound("There is no such file.", "Make it again on the page.")
    return _download(path, path.name, "application/octet-stream")


def metrics(request: Request) -> Response:
    """Runs and machine for Prometheus."""
    media_type = prometheus.media_type(request.headers.get("accept", ""))
    text = prometheus.exposition(prometheus.families(RunStore(home())), media_type)
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


def asset(request: Request) -> Response:
    """A vendored script."""
    name = request.path_params["name"]
    if name not in ASSETS:
        raise NotFound("There is no such file.")
    return FileResponse(STATIC / name, media_type=ASSETS[name], headers={"Cache-Control": FOREVER})


async def page_frame(request: Request) -> Response:
    """What Streamlit answers to the path of a page, with the place of its routes."""
    return HTMLResponse(frame.told_frame(), headers={"Cache-Control": "no-cache"})


ROUTES = [
    Route("/api/health", guarded(health), methods=["GET"]),
    Route("/api/upload", guarded_async(upload), methods=["POST"]),
    Route("/api/runs/{run_id}/live", guarded(live_view), methods=["GET"]),
    Route("/api/runs/{run_id}/workers", guarded(crew), methods=["GET"]),
    Route("/api/runs/{run_id}/log", guarded(log), methods=["GET"]),
    Route("/api/runs/{run_id}/log/file", guarded(log_file), methods=["GET"]),
    Route("/api/runs/{run_id}/model", guarded(model), methods=["GET"]),
    Route("/api/runs/{run_id}/workers/{rank:int}/kill", guarded(kill_worker), methods=["POST"]),
    Route("/api/runs/{run_id}/outliers", guarded(outliers), methods=["GET"]),
    Route("/api/changes", guarded(changes), methods=["GET"]),
    Route("/api/jobs/{job_id}", guarded(job_progress), methods=["GET"]),
    Route("/api/jobs/{job_id}/cancel", guarded(cancel_job), methods=["POST"]),
    Route("/api/jobs/{job_id}/result", guarded(job_result), methods=["GET"]),
    Route("/api/jobs/{job_id}/result/{name}", guarded(job_result), methods=["GET"]),
    Route("/assets/{name}", guarded(asset), methods=["GET"]),
    Route("/metrics", guarded(metrics), methods=["GET"]),
    *(Route(f"/{path}", page_frame, methods=["GET"]) for path in PAGE_PATHS),
]


@asynccontextmanager
async def warm_up(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Import what the first page would wait for, beside the first request.

    A full garbage collection follows each run of a script; frozen modules are left out of it
    (measured: from 7-10 % of a core to 1.4 % for a live page).
    """
    configure_logging()
    thread = threading.Thread(target=_import_heavy_parts, name="warm-up", daemon=True)
    thread.start()
    yield {}


def _import_heavy_parts() -> None:
    import numpy  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    for module in pkgutil.iter_modules(dashboard.__path__, "regatta.dashboard."):
        importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


async def _drain(request: Request) -> None:
    """Read and drop what is still coming, up to a limit: a client that is cut off while it sends
    sees a broken connection instead of the answer."""
    size = 0
    with contextlib.suppress(ClientDisconnect, RuntimeError):
        async for chunk in request.stream():
            size += len(chunk)
            if size > DRAINED_BYTES:
                return


def _run_directory(request: Request) -> RunDirectory:
    try:
        directory = RunDirectory.of(home(), request.path_params["run_id"])
    except UserError as error:
        raise NotFound(error.message, error.hint) from None
    if not directory.exists():
        raise NotFound("There is no such run.", "It may have been deleted.")
    return directory


def _download(path: Path, name: str, media_type: str) -> Response:
    if not path.resolve().is_relative_to(home().resolve()):
        raise NotFound("There is no such file.")  # a link that leads out of what is ours
    return FileResponse(
        path,
        media_type=media_type,
        filename=name,
        headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
    )
