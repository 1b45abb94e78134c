"""Processes that parse: how they are started, called and ended, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from regatta.ingest import child as child_module
from regatta.ingest import chunks, parsing
from regatta.ingest.child import ChildPool
from regatta.ingest.dialect import Dialect
from regatta.utils import RegattaError

OPEN_PARSER = "regatta.ingest.parsing:open_parser"
Start = Callable[..., ChildPool]
DIALECT = Dialect("utf-8", ",", names=("a", "b"))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that are gone after the test, whatever it did to them."""
    pools: list[ChildPool] = []

    def started(count: int, *modules: str) -> ChildPool:
        pools.append(ChildPool(count, *modules))
        return pools[-1]

    yield started
    for pool in pools:
        pids = pool.pids
        pool.close()
        assert wait_for(lambda pids=pids: not any(map(alive, pids)))  # type: ignore[misc]


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def mother_of(pool: ChildPool) -> psutil.Process:
    return psutil.Process(psutil.Process(pool.pids[0]).ppid())


def answers(pool: ChildPool, index: int = 0) -> bool:
    """Whether a process answers a call."""
    pool.children[index].call(OPEN_PARSER, "rows.csv", DIALECT, [])
    return pool.children[index].result() is None


def test_a_parsing_process_never_imports_pandas(start: Start) -> None:
    """pyarrow would, for nothing; it takes as long as parsing 25 MB."""
    pool = start(1)
    (child,) = pool.children
    child.call("pandas:DataFrame")
    with pytest.raises(RegattaError, match="not in this process"):
        child.result()
    child.call(OPEN_PARSER, "rows.csv", DIALECT, [])
    child.result()


def test_what_a_parsing_process_cannot_import_it_tells_when_it_is_called(start: Start) -> None:
    pool = start(1, "regatta.no_such_module")
    (child,) = pool.children
    child.call("regatta.no_such_module:parse")
    with pytest.raises(RegattaError, match="No module named"):
        child.result()
    child.call(OPEN_PARSER, "rows.csv", DIALECT, [])
    child.result()


class _Nowhere:
    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("no module of this name",)


def test_a_parsing_process_that_cannot_take_a_call_ends(start: Start) -> None:
    pool = start(1)
    (child,) = pool.children
    child.call(OPEN_PARSER, _Nowhere())
    with pytest.raises(RegattaError, match=r"ended early \(exit code 0\)"):
        child.result()


def test_an_error_of_the_system_arrives_as_what_it_is(start: Start, tmp_path: Path) -> None:
    pool = start(1)
    (child,) = pool.children
    child.call(OPEN_PARSER, str(tmp_path / "gone.csv"), DIALECT, [])
    child.result()
    chunk = chunks.Chunk(0, 0, 10, None, 10)
    child.call("regatta.ingest.parsing:parse_chunk", chunk, [])
    with pytest.raises(FileNotFoundError):
        child.result()


def test_all_are_forked_from_one_process_that_has_imported_what_they_need(start: Start) -> None:
    pool = start(3, *parsing.MODULES)
    mother = mother_of(pool)
    assert mother.ppid() == os.getpid()
    assert sorted(each.pid for each in mother.children()) == sorted(pool.pids)
    assert all(answers(pool, index) for index in range(3))
    assert [child.pid for child in pool.children] == pool.pids


def test_the_process_that_forks_has_one_thread(tmp_path: Path) -> None:
    """Forked beside others, a process may hang, and Python warns of it."""
    code = (
        "import importlib, os, sys\n"
        "for module in sys.argv[1:]:\n    importlib.import_module(module)\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc, which Linux has")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *parsing.MODULES],
        env=os.environ | child_module.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


def test_some_end_and_the_others_go_on(start: Start) -> None:
    pool = start(3)
    pool.keep(1)
    assert wait_for(lambda: [alive(pid) for pid in pool.pids] == [True, False, False])
    assert answers(pool)


def test_one_that_is_killed_is_told_with_its_exit_code(start: Start) -> None:
    pool = start(2)
    os.kill(pool.pids[1], signal.SIGKILL)
    with pytest.raises(RegattaError, match=r"ended early \(exit code -9\)"):
        answers(pool, 1)
    assert answers(pool, 0), "the other is as it was"


def test_of_several_that_are_killed_each_is_told(start: Start) -> None:
    pool = start(3)
    for pid, sent in zip(pool.pids, (signal.SIGKILL, signal.SIGTERM), strict=False):
        os.kill(pid, sent)
    assert wait_for(lambda: [alive(pid) for pid in pool.pids] == [False, False, True])
    assert [pool.exit_code(index) for index in (1, 0, 1)] == [-15, -9, -15]


def test_how_one_ended_is_not_waited_for_without_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "PATIENCE", 0.2)
    pool = start(1)
    mother = mother_of(pool)
    mother.suspend()
    assert wait_for(lambda: mother.status() == psutil.STATUS_STOPPED)
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(RegattaError, match=r"ended early\."):
        answers(pool)


def test_what_it_holds_is_told_with_each_answer(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hold.py").write_text("def some(state, size):\n    state['some'] = b'x' * size")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = start(1, *parsing.MODULES)
    assert answers(pool)
    before = pool.children[0].held
    pool.children[0].call("hold:some", 64 << 20)
    pool.children[0].result()
    assert 50 << 20 < pool.children[0].held - before < 80 << 20


def test_as_many_work_as_can_be_started(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfork, left = os.fork, [2]\n"
        "def few():\n    left[0] -= 1\n    if left[0] < 0:\n"
        "        raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "    return fork()\nos.fork = few\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = start(5)
    assert wait_for(lambda: pool.started(0.1))
    assert len(pool.children) == len(pool.pids) == 2
    assert answers(pool, 0) and answers(pool, 1)


def test_it_works_in_a_process_that_ignores_the_ends_of_its_children(tmp_path: Path) -> None:
    """As some that start services do, and what they start inherits."""
    code = (
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from regatta.ingest.child import ChildPool\n"
        "pool = ChildPool(2)\nos.kill(pool.pids[0], signal.SIGKILL)\n"
        "print(pool.exit_code(0))\npool.close()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("-9\n", "")


def test_it_works_in_a_process_without_standard_streams(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom regatta.ingest.child import ChildPool\n"
        "os.closerange(0, 3)\npool = ChildPool(2)\n"
        "for child in pool.children:\n"
        f"    child.call({OPEN_PARSER!r}, 'rows.csv', __import__('regatta.ingest.dialect',"
        " fromlist=['Dialect']).Dialect('utf-8', ','), [])\n    child.result()\n"
        "pool.close()\nopen(sys.argv[1], 'w').write('well')"
    )
    subprocess.run([sys.executable, "-P", "-c", code, tmp_path / "told"], timeout=60, check=True)
    assert (tmp_path / "told").read_text() == "well"


def test_one_that_stands_still_ends_with_the_others(start: Start) -> None:
    pool = start(2)
    os.kill(pool.pids[0], signal.SIGSTOP)
    assert wait_for(lambda: psutil.Process(pool.pids[0]).status() == psutil.STATUS_STOPPED)
    pool.close()
    assert not any(map(alive, pool.pids))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_without_the_process_that_forked_them_they_work_and_end(
    start: Start, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    monkeypatch.setattr(child_module, "PATIENCE", 0.2)
    pool = start(2)
    mother = mother_of(pool)
    mother.send_signal(sent)
    gone = psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED
    assert wait_for(lambda: mother.status() in gone)
    assert answers(pool, 0) and answers(pool, 1)
    os.kill(pool.pids[0], signal.SIGSTOP)
    pool.close()
    assert not mother.is_running()
    assert wait_for(lambda: not any(map(alive, pool.pids)))


def test_one_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = ChildPool(1)
    with pytest.raises(RegattaError, match=r"ended early \(exit code 1\)"):
        answers(pool)
    assert pool.pids == []
    pool.close()


def test_they_end_with_the_process_that_started_them() -> None:
    code = (
        "import time\nfrom regatta.ingest.child import ChildPool\n"
        "print(*ChildPool(2).pids, flush=True)\ntime.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout
    pids = [int(word) for word in starter.stdout.readline().split()]
    mother = psutil.Process(psutil.Process(pids[0]).ppid())
    assert len(pids) == 2 and all(map(alive, pids))
    os.kill(pids[1], signal.SIGSTOP)
    starter.kill()
    starter.communicate()
    assert wait_for(lambda: not any(map(alive, [mother.pid, *pids])))
