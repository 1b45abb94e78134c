"""The figures of one run: ``metrics.db`` in its directory.

    coordinator ── MetricsWriter ──▶ metrics.db (SQLite, WAL) ◀── MetricsReader ── page, command

One process writes, in batches two to four times a second; any number read what is new since they
last looked. Readers never hold the writer up, and a reader that comes late sees everything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from regatta.runs.room import lacks_room

# Column names of each table, the first of which orders it. `seconds` is time in training so far
# (pauses and earlier attempts' lost work excluded), `rows` and bytes are cumulative.
TABLES: Mapping[str, tuple[str, ...]] = {
    "points": (
        "step INTEGER PRIMARY KEY",
        "epoch REAL",
        "seconds REAL",
        "rows INTEGER",
        "loss REAL",  # half the mean squared residual of the batch, target's units squared
        "objective REAL",  # loss and penalty
        "learning_rate REAL",
        "gradient_norm REAL",
        "rows_per_second REAL",
        "bytes_published INTEGER",
        "bytes_gathered INTEGER",
    ),
    "evaluations": (
        "step INTEGER PRIMARY KEY",
        "epoch REAL",
        "seconds REAL",
        "train_loss REAL",
        "train_objective REAL",
        "train_r2 REAL",
        "train_rmse REAL",
        "train_mae REAL",
        "validation_loss REAL",
        "validation_r2 REAL",
        "validation_rmse REAL",
        "validation_mae REAL",
    ),
    "workers": (
        "id INTEGER PRIMARY KEY",
        "seconds REAL",
        "rank INTEGER",
        "pid INTEGER",
        "incarnation INTEGER",
        "state TEXT",  # starting, wait, compute, asleep, left; gone: let go, with the figures empty
        "rows INTEGER",
        "compute REAL",  # cumulative seconds; the three add up to the worker's time
        "wait REAL",
        "communicate REAL",
        "cpu_percent REAL",
        "memory_bytes INTEGER",
        "shards INTEGER",
        "disk_bytes INTEGER",  # that it has read from disk: rows that were not in memory
    ),
    "machine": (
        "id INTEGER PRIMARY KEY",
        "seconds REAL",
        "cpu_percent REAL",
        "memory_used INTEGER",
        "memory_total INTEGER",
        "net_sent INTEGER",
        "net_received INTEGER",
        "gpu_percent REAL",
        "gpu_memory INTEGER",
    ),
    "staleness": (  # of asynchronous runs
        "staleness INTEGER PRIMARY KEY",  # updates between a gradient's parameters and its own
        "gradients INTEGER",  # so far
    ),
    "events": (
        "id INTEGER PRIMARY KEY",
        "seconds REAL",
        "step INTEGER",
        "kind TEXT",
        "rank INTEGER",
        "message TEXT",
    ),
}


def column_names(table: str) -> list[str]:
    """The names of a table's columns, in order."""
    return [declaration.split()[0] for declaration in TABLES[table]]


class MetricsWriter:
    """Writes a run's figures; for the run's coordinator alone.

    Rows are gathered in memory by `add` and written by `flush` in one transaction.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        for table, declarations in TABLES.items():
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(declarations)})"
            )
            self._add_columns(table, declarations)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL)"
        )
        self._insert = {
            table: f"INSERT OR REPLACE INTO {table} ({', '.join(column_names(table))}) "
            f"VALUES ({', '.join('?' * len(declarations))})"
            for table, declarations in TABLES.items()
        }
        self._pending: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}

    def _add_columns(self, table: str, declarations: tuple[str, ...]) -> None:
        """Those that a run lacks which an older version began."""
        there = {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}
        for declaration in declarations:
            if declaration.split()[0] not in there:
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {declaration}")

    def add(self, table: str, **values: Any) -> None:
        """Gather one row. Columns that are not given are NULL."""
        self._pending[table].append(tuple(values.get(name) for name in column_names(table)))

    def flush(self) -> None:
        """Write what was gathered."""
        if not any(self._pending.values()):
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for table, rows in self._pending.items():
                if rows:
                    self._connection.executemany(self._insert[table], rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:  # a full disk may have ended it
                self._connection.execute("ROLLBACK")
            raise
        for rows in self._pending.values():
            rows.clear()

    def fact(self, name: str, value: float) -> None:
        """Write down a number that holds for the whole run, at once."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def forget_after(self, step: int) -> None:
        """Delete points and evaluations beyond ``step``: a resumed run makes them again. So it does
        the staleness, which it counts on from its checkpoint."""
        self._connection.execute("DELETE FROM staleness")
        for table in ("points", "evaluations"):
            self._connection.execute(f"DELETE FROM {table} WHERE step > ?", (step,))

    def close(self) -> None:
        """Write what is left and close. The file is then whole without its write-ahead log."""
        try:
            self.flush()
        finally:
            self._connection.close()


class MetricsReader:
    """Reads a run's figures, incrementally, while they are written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, table: str, since: int = -1, limit: int = 100_000) -> list[dict[str, Any]]:
        """Rows of ``table`` whose first column (step or id) is above ``since``, in order.

        An empty list where the run has not begun to write.
        """
        key = column_names(table)[0]
        where = f"WHERE {key} > ? ORDER BY {key} LIMIT ?"
        return self._records(table, where, (since, limit))

    def facts(self) -> dict[str, float]:
        """Numbers that hold for the whole run, in the target's units squared, where they are known:
        ``optimal_objective``, without the penalty ``optimal_loss``, and ``gap_unit``, what the gap
        to the optimum is told as a share of. Of fewer workers at the same training
        ``reference_workers``, with the ``reference_rows_per_second`` of all of them, and the
        ``reference_rows_per_cpu_second`` of one."""
        return dict(self._rows("SELECT name, value FROM facts", ()))

    def latest(self, table: str) -> dict[str, Any] | None:
        """The last row of ``table``, or ``None``."""
        found = self._records(table, f"ORDER BY {column_names(table)[0]} DESC LIMIT 1", ())
        return found[0] if found else None

    def newest(self, table: str, count: int) -> list[dict[str, Any]]:
        """The last ``count`` rows of ``table``, in order."""
        key = column_names(table)[0]
        return self._records(table, f"ORDER BY {key} DESC LIMIT ?", (count,))[::-1]

    def losses(self, count: int) -> list[float]:
        """The loss at ``count`` steps at equal distances, the first and the last among them.

        Costs the same however many points there are.
        """
        query = """
            WITH RECURSIVE
                ends(first, last) AS
                    (SELECT (SELECT min(step) FROM points), (SELECT max(step) FROM points)),
                places(place) AS
                    (SELECT 0 UNION ALL SELECT place + 1 FROM places WHERE place < ?),
                steps(step) AS
                    (SELECT DISTINCT (SELECT step FROM points
                                      WHERE step >= first + (last - first) * place / ?
                                      ORDER BY step LIMIT 1) FROM ends CROSS JOIN places)
            SELECT loss FROM steps CROSS JOIN points USING (step)
            WHERE loss IS NOT NULL ORDER BY step
            """
        return [loss for (loss,) in self._rows(query, (count - 1, count - 1))]

    def latest_workers(self) -> list[dict[str, Any]]:
        """The last row of each rank that has not been let go, by rank."""
        where = (
            "WHERE id IN (SELECT max(id) FROM workers GROUP BY rank) "
            "AND state IS NOT 'gone' ORDER BY rank"
        )
        return self._records("workers", where, ())

    def _records(self, table: str, where: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Rows by the names of their columns; ``None`` in those that an older version had not."""
        names = column_names(table)
        try:
            rows = self._rows(f"SELECT {', '.join(names)} FROM {table} {where}", parameters)
        except sqlite3.OperationalError as error:
            if "no such column" not in str(error):
                raise
            there = {
                row[0] for row in self._rows(f"SELECT name FROM pragma_table_info('{table}')", ())
            }
            chosen = ", ".join(name if name in there else f"NULL AS {name}" for name in names)
            rows = self._rows(f"SELECT {chosen} FROM {table} {where}", parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _rows(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        # A WAL database cannot be opened read-only before its -shm file is there: query_only is
        # as safe and always works.
        with closing(sqlite3.connect(self._path, timeout=5)) as connection:
            connection.execute("PRAGMA query_only=ON")
            try:
                return connection.execute(query, parameters).fetchall()
            except sqlite3.OperationalError as error:
                # On a full disk there may be no room for the -shm file: what is new comes later.
                if "no such table" in str(error) or lacks_room(error):
                    return []
                raise
