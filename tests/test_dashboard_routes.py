"""The page's own routes, over real sockets: answers, refusals, limits."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from prometheus_client import metrics_core
from prometheus_client import parser as plain_text
from prometheus_client.openmetrics import parser as openmetrics
from starlette.applications import Starlette

import regatta
from regatta.configuration import TrainingConfig
from regatta.dashboard import frame, health, jobs, prometheus, settings, sign_in, uploads
from regatta.dashboard.routes import MAX_CONCURRENT_UPLOADS, PAGE_PATHS, ROUTES
from regatta.runs import service
from regatta.runs import store as store_module
from regatta.runs.directory import take_lock, write_holder
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.runs.supervisor import lock_path
from regatta.tests.crew import wait_for
from regatta.utils import home, write_json

SENT_BY_THE_PAGE = {"X-Regatta-Request": "upload"}


class Server:
    """The routes on a free port."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(Starlette(routes=ROUTES), log_level="warning")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        status, body, _ = self.ask("GET", path, None, **headers)
        return status, json.loads(body) if body else None

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
        status, answer, _ = self.ask("POST", path, body, **{**SENT_BY_THE_PAGE, **headers})
        return status, json.loads(answer)


@pytest.fixture
def server(regatta_home: Path) -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def run_id(regatta_home: Path) -> str:
    store = RunStore(regatta_home)
    run_id = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED).run_id
    writer = MetricsWriter(store.directory(run_id).metrics)
    writer.add("points", step=1, epoch=0.1, seconds=0.5, rows=10, loss=2.0)
    writer.close()
    return run_id


# Health


def test_health(server: Server) -> None:
    status, answer = server.get("/api/health")
    assert status == 200
    assert answer == {"status": "ok", "version": regatta.__version__, "supervisor": "idle"}


def test_health_fails_where_runs_cannot_be_written(
    server: Server, regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    store = RunStore(regatta_home)
    store.list()
    with contextlib.closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        status, answer = server.get("/api/health")
    assert status == 503 and answer["status"] == "failing"
    assert "stayed locked" in answer["error"]["message"]
    assert server.get("/api/health")[0] == 200


def test_health_fails_where_the_home_is_gone(
    server: Server, regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = regatta_home / "nowhere"
    monkeypatch.setattr(health, "home", lambda: nowhere)
    status, answer = server.get("/api/health")
    assert status == 503 and answer["error"]["message"] and "Traceback" not in str(answer)


def test_health_fails_where_waiting_runs_would_never_start(
    server: Server, regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure = functools.partial(service.ensure_supervisor, command=("false",))
    monkeypatch.setattr(service, "ensure_supervisor", ensure)
    assert server.get("/api/health")[0] == 200, "none is needed"
    config = TrainingConfig(path="rows.csv", target="y")
    run_id = RunStore(regatta_home).create(config, detached=True).run_id
    status, answer = server.get("/api/health")
    assert status == 503 and "supervisor did not start" in answer["error"]["message"]
    RunStore(regatta_home).send_command(run_id, "stop")
    assert server.get("/api/health")[0] == 200


def test_health_fails_while_the_supervisor_stands_still(server: Server, regatta_home: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        lock = take_lock(lock_path(regatta_home))
        assert lock is not None
        try:
            write_holder(lock, sleeper.pid)
            assert server.get("/api/health")[1]["supervisor"] == "running"
            sleeper.send_signal(signal.SIGSTOP)
            wait_for(lambda: server.get("/api/health")[0] == 503)
            message = server.get("/api/health")[1]["error"]["message"]
            assert f"process {sleeper.pid}) is stopped" in message
        finally:
            sleeper.kill()
            os.close(lock)


# Metrics


def series(server: Server, accept: str = "") -> dict[str, metrics_core.Metric]:
    """What the Prometheus client's own parser makes of the answer, by the name of its family."""
    status, body, headers = server.ask("GET", "/metrics", None, Accept=accept)
    assert status == 200
    text, kind = body.decode(), headers["content-type"]
    parse = openmetrics if kind.startswith("application/openmetrics-text") else plain_text
    assert kind == prometheus.media_type(accept)
    found = list(parse.text_string_to_metric_families(text))
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


@pytest.mark.parametrize("accept", ["", prometheus.OPEN_METRICS + ",text/plain;q=0.5"])
def test_metrics_are_what_prometheus_reads(server: Server, run_id: str, accept: str) -> None:
    found = series(server, accept)
    for name, family in found.items():
        assert re.fullmatch(r"regatta(_[a-z]+)+", name)
        assert family.documentation and family.type in ("gauge", "counter", "info")
        # Base units; suffixes of kinds stand where they belong, and nowhere else.
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent|ratio_percent)$", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert set(sample.labels) <= {"state", "version", "python"}
            assert run_id not in str(sample)
    states = {each.labels["state"]: each.value for each in found["regatta_runs"].samples}
    assert states == {str(state): float(state is RunState.QUEUED) for state in RunState}
    assert found["regatta_process_cpu_seconds"].samples[0].value > 0
    assert found["regatta_process_resident_memory_bytes"].samples[0].value > 1e6


def test_metrics_that_openmetrics_would_not_take_are_noticed(server: Server) -> None:
    # The parser of this test must see what is wrong with a name, or it shows nothing.
    wrong = prometheus.Family("regatta_rows_total", "counter", "Rows.", [({}, 1)])
    with pytest.raises(ValueError):
        list(openmetrics.text_string_to_metric_families(
            prometheus.exposition([wrong, wrong], prometheus.OPEN_METRICS)))  # fmt: skip


def test_counters_only_grow(server: Server, run_id: str, regatta_home: Path) -> None:
    store = RunStore(regatta_home)

    def counters() -> dict[str, float]:
        return {name: each.samples[0].value for name, each in series(server).items()
                if each.type == "counter" and "process" not in name}  # fmt: skip

    assert set(counters().values()) == {0.0}
    with store.directory(run_id).lock():
        store.update_state(run_id, RunState.STARTING)
        store.update_state(run_id, RunState.RUNNING, workers=3)
        store.note_progress(run_id, rows_trained=500, worker_deaths=1, checkpoints=2,
                            rows_per_second=1e6)  # fmt: skip
        found = series(server)
        assert found["regatta_rows_per_second"].samples[0].value == 1e6
        assert found["regatta_workers"].samples[0].value == 3
    store.send_command(run_id, "stop")
    before = counters()
    assert before["regatta_trained_rows"] == 500 and before["regatta_worker_deaths"] == 1
    store.delete(run_id)
    assert counters() == before
    assert series(server)["regatta_workers"].samples[0].value == 0


def test_metrics_open_no_figures_of_runs(
    regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(regatta_home)
    config = TrainingConfig(path="rows.csv", target="y")
    for _ in range(30):
        store.send_command(store.create(config, detached=True).run_id, "stop")
    prometheus.families(store)  # whose rows are then as their files
    opened: list[object] = []
    connect = sqlite3.connect

    def counted(path: Any, *arguments: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(path)
        made: sqlite3.Connection = connect(path, *arguments, **settings)
        return made

    monkeypatch.setattr(sqlite3, "connect", counted)
    monkeypatch.setattr(store_module, "read_json", lambda path: pytest.fail(f"{path} was read"))
    assert len(prometheus.families(store)) > 10
    assert opened == [store.path] * 2, "one look at the list, one at what was deleted"


def test_an_upload_is_stored_under_a_name_of_ours(server: Server, regatta_home: Path) -> None:
    status, answer = server.post("/api/upload?name=..%2f..%2fevil.csv", b"a,b\n1,2\n")
    assert status == 200
    assert answer["name"] == "evil.csv" and answer["size"] == 8
    stored = uploads.find_upload(answer["id"])
    assert stored.path == regatta_home / "uploads" / answer["id"] / "evil.csv"


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_over_the_cap_is_413_with_a_sentence(
    server: Server, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setenv(settings.UPLOAD_LIMIT_VARIABLE, "0.01")
    body: Any = iter([b"x" * 6_000] * 3) if chunked else b"x" * 18_000
    status, answer = server.post("/api/upload?name=big.csv", body)
    assert status == 413
    assert "larger than" in answer["error"]["message"] and answer["error"]["hint"]
    assert uploads.list_uploads() == []


def test_uploads_over_the_cap_by_number_are_429(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 1)
    assert server.post("/api/upload?name=a.csv", b"a\n1\n")[0] == 200
    status, answer = server.post("/api/upload?name=b.csv", b"a\n1\n")
    assert status == 429 and "already" in answer["error"]["message"]
    assert len(uploads.list_uploads()) == 1


def test_no_more_uploads_at_once_than_a_few(server: Server) -> None:
    """The first ones are still sending when the next one comes."""
    head = f"POST /api/upload?name=a.csv HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    head += "X-Regatta-Request: upload\r\nContent-Length: 8\r\n\r\na,b\n"
    with contextlib.ExitStack() as opened:
        senders = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(MAX_CONCURRENT_UPLOADS)
        ]
        for sender in senders:
            sender.sendall(head.encode())
        deadline = time.monotonic() + 20
        while len(list(uploads.uploads_folder().iterdir())) < len(senders):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.post("/api/upload?name=b.csv", b"a\n1\n")[0] == 429
        for sender in senders:
            sender.sendall(b"1,2\n")
            assert sender.recv(100).startswith(b"HTTP/1.1 200")
    assert server.post("/api/upload?name=b.csv", b"a\n1\n")[0] == 200


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"Host": "evil.example"}, "/api/health"),
        ({"Host": "evil.example:5000"}, "/metrics"),
        ({"Host": "127.0.0.1.evil.example"}, "/api/health"),
        ({"Origin": "http://evil.example"}, "/api/health"),
        ({"Origin": "null"}, "/api/health"),
        ({"Sec_Fetch_Site": "cross-site"}, "/api/health"),
        ({"Sec_Fetch_Site": "same-site"}, "/assets/plotly-cartesian-4.1.1.min.js"),
    ],
)
def test_requests_of_other_sites_are_refused(
    server: Server, headers: dict[str, str], path: str
) -> None:
    status, answer = server.get(path, **headers)
    assert status == 403 and answer["error"]["message"]


def test_an_upload_of_another_site_is_refused(server: Server) -> None:
    body = b"a\n1\n"
    assert server.ask("POST", "/api/upload?name=x.csv", body)[0] == 403
    assert server.post("/api/upload?name=x.csv", body, Origin="http://evil.example")[0] == 403
    assert server.post("/api/upload?name=x.csv", body, Origin="http://127.0.0.1:1")[0] == 403
    assert uploads.list_uploads() == []
    origin = f"http://127.0.0.1:{server.port}"
    assert server.post("/api/upload?name=x.csv", body, Origin=origin)[0] == 200


def test_behind_a_proxy_its_name_is_ours(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.PROXY_VARIABLE, "1")
    outside = {"Host": "inside:5000", "X_Forwarded_Host": "regatta.example"}
    assert server.get("/api/health", **outside, Origin="https://regatta.example")[0] == 200
    assert server.get("/api/health", **outside, Origin="https://evil.example")[0] == 403


@pytest.mark.parametrize("cookie", ["", "_streamlit_user=x", "_streamlit_user=%7B%7D.x.y"])
def test_where_people_sign_in_each_route_asks_for_it(
    server: Server, run_id: str, monkeypatch: pytest.MonkeyPatch, cookie: str
) -> None:
    monkeypatch.setenv(sign_in.ALLOWED_VARIABLE, "ann@example.org")
    for path in (
        "/api/health",
        "/metrics",
        f"/api/runs/{run_id}/live",
        f"/api/runs/{run_id}/model",
    ):
        assert server.ask("GET", path, Cookie=cookie)[0] == 401, path
    assert server.post("/api/upload?name=x.csv", b"a\n1\n", Cookie=cookie)[0] == 401
    assert uploads.list_uploads() == []


def test_every_route_of_ours_is_guarded() -> None:
    """A route that is added without the checks is found here; a page's frame holds no data."""
    bare = {route.path for route in ROUTES if not hasattr(route.endpoint, "is_guarded")}
    assert bare == {f"/{path}" for path in PAGE_PATHS}


def test_a_worker_is_killed_by_the_coordinator_of_its_live_run_alone(
    server: Server, run_id: str
) -> None:
    store, path = RunStore(home()), f"/api/runs/{run_id}/workers/1/kill?incarnation=2"
    status, answer = server.post(path, b"")
    assert status == 400 and "there is nothing to kill" in answer["error"]["message"]
    with store.directory(run_id).lock():
        for state in (RunState.STARTING, RunState.RUNNING):
            store.update_state(run_id, state, workers=2)
        assert server.ask("POST", path)[0] == 403  # without the header that only the page can send
        for foreign in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert server.post(path, b"", **foreign)[0] == 403
        assert server.ask("GET", path)[0] == 405
        assert store.take_commands(run_id) == []
        for wrong in (
            "workers/2/kill?incarnation=0",
            "workers/1/kill",
            "workers/1/kill?incarnation=x",
        ):
            assert server.post(f"/api/runs/{run_id}/{wrong}", b"")[0] == 400
        negative = path.replace("workers/1", "workers/-1")
        assert server.ask("POST", negative, None, **SENT_BY_THE_PAGE)[0] == 404
        other = "/api/runs/20200101-000000-0000/workers/0/kill?incarnation=0"
        assert server.post(other, b"")[0] == 404
        assert store.take_commands(run_id) == []
        assert server.post(path, b"") == (200, {"killed": 1})
        assert store.take_commands(run_id) == ["kill 1 2"]


def test_live_news_come_once(server: Server, run_id: str) -> None:
    status, first = server.get(f"/api/runs/{run_id}/live?since=")
    assert status == 200 and first["points"]["step"] == [1]
    news = f"/api/runs/{run_id}/live?since={first['cursor']}&tag={first['tag']}"
    assert server.ask("GET", news)[:2] == (204, b"")
    writer = MetricsWriter(RunStore(home()).directory(run_id).metrics)
    writer.add("points", step=2, epoch=0.2, seconds=1.0, rows=20, loss=float("nan"))
    writer.close()
    status, second = server.get(news)
    assert status == 200 and second["points"]["step"] == [2]
    assert second["points"]["loss"] == [None]  # JSON has no NaN


@pytest.mark.parametrize(
    "run_id", ["..", "..%2f..%2fetc", "20260101-000000-0000", "x", "20260101-000000-0000%00"]
)
@pytest.mark.parametrize("what", ["live", "model"])
def test_only_runs_are_served(server: Server, run_id: str, what: str) -> None:
    assert server.ask("GET", f"/api/runs/{run_id}/{what}")[0] == 404


def test_the_model_is_a_download(server: Server, run_id: str, regatta_home: Path) -> None:
    path = f"/api/runs/{run_id}/model"
    assert server.get(path)[0] == 404
    RunStore(regatta_home).directory(run_id).model.write_text('{"format": "regatta-model"}')
    status, body, headers = server.ask("GET", path)
    assert status == 200 and json.loads(body) == {"format": "regatta-model"}
    assert headers["content-disposition"] == f'attachment; filename="{run_id}-model.json"'


def test_nothing_outside_of_the_home_is_served_through_a_link(
    server: Server, run_id: str, regatta_home: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    directory = RunStore(regatta_home).directory(run_id)
    directory.model.symlink_to(secret)
    assert server.get(f"/api/runs/{run_id}/model")[0] == 404
    directory.model.unlink()
    directory.model.write_text("{}")
    assert server.get(f"/api/runs/{run_id}/model")[0] == 200
    outside = tmp_path / "outside"
    directory.path.rename(outside)
    directory.path.symlink_to(outside)
    assert server.get(f"/api/runs/{run_id}/model")[0] == 404
    assert server.get(f"/api/runs/{run_id}/live?since=")[0] == 404


def test_a_job_that_is_a_link_has_no_result(
    server: Server, regatta_home: Path, tmp_path: Path
) -> None:
    job = jobs.Job("predict-0123456789abcdef")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "out.csv").write_text("y\n")
    write_json(outside / "status.json", {"state": "done", "result": {"file": "out.csv"}})
    job.folder.parent.mkdir(exist_ok=True)
    job.folder.symlink_to(outside)
    assert server.get(f"/api/jobs/{job.job_id}/result")[0] == 404
    job.folder.unlink()
    outside.rename(job.folder)
    assert server.ask("GET", f"/api/jobs/{job.job_id}/result")[:2] == (200, b"y\n")


@pytest.mark.parametrize("name", ["live.js", "..%2fsettings.py", "plotly-LICENSE.txt"])
def test_only_the_vendored_script_is_an_asset(server: Server, name: str) -> None:
    assert server.ask("GET", f"/assets/{name}")[0] == 404


def test_the_vendored_script_keeps_its_licence(server: Server, root: Path) -> None:
    status, body, headers = server.ask("GET", "/assets/plotly-cartesian-4.1.1.min.js")
    assert status == 200 and "immutable" in headers["cache-control"]
    assert b"Licensed under the MIT license" in body[:300] and len(body) < 3_000_000
    assert (root / "dashboard" / "static" / "plotly-LICENSE.txt").read_text().startswith("MIT")


@pytest.mark.parametrize("job_id", ["..", "predict-..", "predict-0123456789abcdef"])
def test_only_jobs_have_results(server: Server, job_id: str) -> None:
    assert server.ask("GET", f"/api/jobs/{job_id}/result")[0] in {400, 404}


def test_a_job_is_followed_and_asked_to_end(server: Server, regatta_home: Path) -> None:
    job = jobs.Job("predict-0123456789abcdef")
    assert server.get(f"/api/jobs/{job.job_id}")[0] == 404
    job.folder.mkdir(parents=True)
    write_json(job.folder / "spec.json", {})  # as if its process were about to start
    write_json(job.folder / "status.json", vars(jobs.Status("running", 0.5, "half of it")))
    told = {"state": "running", "fraction": 0.5, "message": "half of it", "cancelled": False}
    assert server.get(f"/api/jobs/{job.job_id}") == (200, told)
    assert server.ask("POST", f"/api/jobs/{job.job_id}/cancel")[0] == 403  # not from the page
    assert not job.is_cancelled
    assert server.post(f"/api/jobs/{job.job_id}/cancel", b"") == (200, {"cancelled": True})
    assert server.get(f"/api/jobs/{job.job_id}")[1]["cancelled"]


def test_changes_of_runs_are_told_and_nothing_else(
    server: Server, run_id: str, regatta_home: Path
) -> None:
    store = RunStore(regatta_home)
    one, every = f"/api/changes?run={run_id}&run=gone", "/api/changes"
    before = server.get(one)[1], server.get(every)[1]["tag"]
    assert server.get(one)[1] == before[0]
    other = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.STARTING)
    assert server.get(one)[1] == before[0] and server.get(every)[1]["tag"] != before[1]
    store.update_state(other.run_id, RunState.FAILED, message="It is a test.")
    with store.directory(run_id).log.open("a") as log:
        log.write("more\n")
    assert server.get(one)[1] != before[0]


def test_the_workers_of_a_run_are_told_and_then_what_is_new(server: Server, run_id: str) -> None:
    status, first = server.get(f"/api/runs/{run_id}/workers?since=")
    assert status == 200 and first["reset"] and first["limits"]["cause"] == "unknown"
    query = f"since={first['cursor']}&tag={first['tag']}"
    assert server.get(f"/api/runs/{run_id}/workers?{query}")[0] == 204
    assert server.get("/api/runs/20200101-000000-0000/workers")[0] == 404


def test_the_log_is_asked_for_with_filters_and_followed(
    server: Server, run_id: str, regatta_home: Path
) -> None:
    log = RunStore(regatta_home).directory(run_id).log
    log.write_text("2026-01-01 00:00:01,000 INFO    regatta.x: <b>Fine.</b>\n"
                   "2026-01-01 00:00:02,000 ERROR   regatta.x: Not fine.\n")  # fmt: skip
    status, found = server.get(f"/api/runs/{run_id}/log?level=ERROR&text=not")
    assert status == 200 and [entry["text"] for entry in found["entries"]] == ["Not fine."]
    after = f"/api/runs/{run_id}/log?after={found['cursor']}&stands={quote(found['stands'])}"
    assert server.get(after)[0] == 204
    with log.open("a") as file:
        file.write("2026-01-01 00:00:03,000 INFO    regatta.x: More.\n")
    status, news = server.get(after)
    assert status == 200 and [entry["text"] for entry in news["entries"]] == ["More."]


def test_a_log_is_downloaded_whole_and_no_other_file(
    server: Server, run_id: str, regatta_home: Path
) -> None:
    directory = RunStore(regatta_home).directory(run_id)
    directory.log.write_text("all of it\n")
    (directory.path / "worker-3.log").write_text("the worker's\n")
    (regatta_home / "supervisor.log").write_text("of other runs too\n")
    path = f"/api/runs/{run_id}/log/file"
    status, body, headers = server.ask("GET", path)
    assert status == 200 and body == b"all of it\n" and "run.log" in headers["content-disposition"]
    assert headers["content-type"].startswith("text/plain")
    assert server.ask("GET", f"{path}?process=worker3")[1] == b"the worker's\n"
    for name in ("supervisor", "worker4", "../config.json", "config.json"):
        assert server.ask("GET", f"{path}?process={quote(name)}")[0] == 404, name


def test_a_failure_shows_no_traceback(server: Server, run_id: str, regatta_home: Path) -> None:
    RunStore(regatta_home).directory(run_id).metrics.write_bytes(b"garbage" * 1000)
    status, answer = server.get(f"/api/runs/{run_id}/live?since=")
    assert status == 500 and "Traceback" not in json.dumps(answer)


def test_each_page_is_told_where_the_server_begins(server: Server, root: Path) -> None:
    """Else Streamlit's script asks for its routes below the path of the page, in vain."""
    script = (root / "dashboard" / "pages" / "navigation.py").read_text()
    paths = re.findall(r'url_path="([^"]+)"', script)
    assert sorted(paths) == sorted(PAGE_PATHS)
    for path in paths:
        status, body, headers = server.ask("GET", f"/{path}")
        text = body.decode()
        assert status == 200 and headers["content-type"].startswith("text/html")
        assert text.index("BACKEND_BASE_URL:location.origin") < text.index('<script type="module"')
        added = f"<script>{frame.WHERE_THE_SERVER_BEGINS}</script>"
        assert text.replace(added, "") == frame.streamlit_frame()
