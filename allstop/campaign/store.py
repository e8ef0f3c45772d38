# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign's store: one SQLite file with the runs, the files that they need, and the results.

A run is waiting, leased, done, or given up. A lease has an epoch, and the store takes a result only under the epoch of
the newest lease, once: `result` has the run as its key. A kernel lock (flock) admits one writer at a time: it ends with
the process, however that ends, and the next writer takes back what was leased. ADR 10.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from allstop.campaign.combination import Combination
from allstop.campaign.result import Lease, Result
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.version import __version__

MAX_TRIES = 3
_APPLICATION = 0x616C_6C63  # "allc"
_FORMAT = 1
_SCHEMA = f"""
CREATE TABLE campaign (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE file (digest TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE run (
    id TEXT PRIMARY KEY, ordinal INTEGER NOT NULL, combination TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'leased', 'done', 'given up')),
    epoch INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, lost TEXT NOT NULL DEFAULT '');
CREATE INDEX run_by_state ON run (state, ordinal);
CREATE TABLE result (
    run TEXT PRIMARY KEY REFERENCES run (id), epoch INTEGER NOT NULL, verdict TEXT NOT NULL, sentence TEXT NOT NULL,
    wall_s REAL NOT NULL, verdict_json TEXT NOT NULL, console TEXT NOT NULL, host TEXT NOT NULL,
    started_at REAL NOT NULL, took_s REAL NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_FORMAT};
"""
_RESULT_COLUMNS = ", ".join(field.name for field in fields(Result))


class StoreError(HarnessError):
    """The store could not be written or read: the disk is full or broken."""


class Counts(NamedTuple):
    """The number of runs in each state; `leased` ones are under way."""

    waiting: int
    leased: int
    done: int
    given_up: int

    @property
    def total(self) -> int:
        """All runs."""
        return sum(self)


class Row(NamedTuple):
    """A run of a store. `result` is None until it has one; `lost` says why its last attempt was lost."""

    combination: Combination
    state: str
    epoch: int
    lost: str
    result: Result | None


class Store:
    """`with Store.to_write(path) as store` or `Store.to_read(path)`. Everything may raise StoreError."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_fd: int, is_new: bool) -> None:
        self.path = path
        self._connection = connection
        self._lock_fd = lock_fd
        self._is_new = is_new

    @classmethod
    def to_write(cls, path: Path) -> Store:
        """Open the store in `path`, or make it. Raises UsageError for a file that is no store, and for a store that
        another campaign is writing."""
        try:
            lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise UsageError(f"the store {path} cannot be opened: {error.strerror}") from None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, lock_fd)  # after the connection's end: closing it drops SQLite's locks, too
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"another campaign is writing the store {path}: wait for it, or name another file with --store"
                ) from None
            except OSError as error:
                raise UsageError(
                    f"the store {path} cannot be locked: {error.strerror}; put it on a local disk"
                ) from None
            with _told(path, "opened"):
                connection = sqlite3.connect(path, isolation_level=None)
                stack.callback(connection.close)
                connection.execute("PRAGMA trusted_schema = OFF")
                is_new = _is_empty(path, connection)  # or its maker was killed before it had tables
                if not is_new:
                    _check_kind(path, connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                if is_new:
                    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            store = cls(path, connection, lock_fd, is_new)
            stack.pop_all()
        return store

    @classmethod
    def to_read(cls, path: Path) -> Store:
        """Open the store in `path` for reading; a campaign may be writing it. Raises UsageError for a file that is no
        store."""
        if not path.is_file():
            raise UsageError(f"there is no store {path}")
        # Without write access only a store without a writer is readable; with it, SQLite tidies up its side files.
        can_tidy = os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
        with _told(path, "opened"):
            uri = f"{path.absolute().as_uri()}?{'mode=rw' if can_tidy else 'mode=ro&immutable=1'}"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            try:
                connection.execute("PRAGMA query_only = ON")
                _check_kind(path, connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, -1, False)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        empty = self._is_new and error is not None and not self._has_runs()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if empty:  # made for a campaign that never began
            for end in ("", "-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def plan(
        self, name: str, combinations: Sequence[Combination], contents: Mapping[str, bytes], extend: bool = False
    ) -> None:
        """Put these runs into the store: a new store gets them, a store that has them is resumed, and every leased or
        given-up run waits again. Raises UsageError if the store has another campaign's runs; with `extend` those stay,
        and missing runs are added."""
        with self._transaction() as db:
            known = {run for (run,) in db.execute("SELECT id FROM run")}
            wanted = {found.identity: found for found in combinations}
            if known:
                self._check_version()
                if known != wanted.keys() and not extend:
                    raise UsageError(
                        f"the store {self.path} has another campaign: {len(known - wanted.keys())} of its {len(known)} "
                        f"runs are not in this spec, and {len(wanted.keys() - known)} of the spec's {len(wanted)} are "
                        "new; name another file with --store, or say --extend to add the new ones"
                    )
            db.executemany("INSERT OR REPLACE INTO campaign VALUES (?, ?)", (("name", name), ("allstop", __version__)))
            db.executemany("INSERT OR IGNORE INTO file VALUES (?, ?)", contents.items())
            first = len(known)
            db.executemany(
                "INSERT INTO run (id, ordinal, combination) VALUES (?, ?, ?)",
                (
                    (run, first + at, found.to_json())
                    for at, (run, found) in enumerate((run, found) for run, found in wanted.items() if run not in known)
                ),
            )
            self._take_back_all(db)

    def resume(self) -> None:
        """As `plan`, with the runs that the store has."""
        with self._transaction() as db:
            self._check_version()
            self._take_back_all(db)

    def lease(self, most: int) -> list[Lease]:
        """Lease up to this many of the waiting runs, in the order of the spec."""
        if most <= 0:
            return []
        with self._transaction() as db:
            rows = db.execute(
                "UPDATE run SET state = 'leased', epoch = epoch + 1, tries = tries + 1 WHERE id IN (SELECT id FROM run "
                "WHERE state = 'waiting' ORDER BY ordinal LIMIT ?) RETURNING ordinal, combination, epoch",
                (most,),
            ).fetchall()
        return [Lease(Combination.from_json(text), epoch) for _, text, epoch in sorted(rows)]

    def complete(self, lease: Lease, result: Result) -> bool:
        """Take a result. False, with no change, unless the run is leased under exactly this epoch."""
        run = lease.combination.identity
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE run SET state = 'done', lost = '' WHERE id = ? AND epoch = ? AND state = 'leased'",
                (run, lease.epoch),
            ).rowcount
            if changed:
                values = [_storable(value) if isinstance(value, str) else value for value in astuple(result)]
                db.execute(
                    f"INSERT INTO result (run, epoch, {_RESULT_COLUMNS}) VALUES (?, ?{', ?' * len(values)})",
                    (run, lease.epoch, *values),
                )
        return bool(changed)

    def lose(self, lease: Lease, why: str) -> bool:
        """An attempt is lost: the run waits again, or is given up after MAX_TRIES of them. False as `complete`."""
        with self._transaction() as db:
            return bool(
                db.execute(
                    "UPDATE run SET state = CASE WHEN tries >= ? THEN 'given up' ELSE 'waiting' END, lost = ? "
                    "WHERE id = ? AND epoch = ? AND state = 'leased'",
                    (MAX_TRIES, _storable(why), lease.combination.identity, lease.epoch),
                ).rowcount
            )

    def take_back(self, leases: Sequence[Lease]) -> None:
        """Take leases back that were never tried: their runs wait again."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE run SET state = 'waiting', tries = tries - 1 WHERE id = ? AND epoch = ? AND state = 'leased'",
                ((lease.combination.identity, lease.epoch) for lease in leases),
            )

    def has_waiting(self) -> bool:
        """Whether a run could be leased."""
        with _told(self.path, "read"):
            return self._connection.execute("SELECT 1 FROM run WHERE state = 'waiting' LIMIT 1").fetchone() is not None

    def counts(self) -> Counts:
        """The campaign's progress. Reads every run: some milliseconds for a hundred thousand."""
        with _told(self.path, "read"):
            found = dict(self._connection.execute("SELECT state, count(*) FROM run GROUP BY state").fetchall())
        return Counts(*(found.get(state, 0) for state in ("waiting", "leased", "done", "given up")))

    def contents(self) -> dict[str, bytes]:
        """The files that the runs need, by digest."""
        with _told(self.path, "read"):
            return dict(self._connection.execute("SELECT digest, content FROM file").fetchall())

    @property
    def name(self) -> str:
        """The campaign's name."""
        return self._fact("name")

    @property
    def version(self) -> str:
        """The version of allstop of its runs."""
        return self._fact("allstop")

    def rows(self, brief: bool = False) -> Iterator[Row]:
        """All runs, in the order of the spec; in `brief` without consoles and whole verdicts, which are most of it."""
        columns = ", ".join(
            "''" if brief and field.name in ("console", "verdict_json") else f"result.{field.name}"
            for field in fields(Result)
        )
        with _told(self.path, "read"):
            for text, state, epoch, lost, *found in self._connection.execute(
                f"SELECT combination, state, run.epoch, lost, {columns} FROM run LEFT JOIN result ON run = id "
                "ORDER BY ordinal"
            ):
                yield Row(Combination.from_json(text), state, epoch, lost, None if found[0] is None else Result(*found))

    def _fact(self, key: str) -> str:
        with _told(self.path, "read"):
            row = self._connection.execute("SELECT value FROM campaign WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    def _has_runs(self) -> bool:
        try:
            return self._connection.execute("SELECT 1 FROM run LIMIT 1").fetchone() is not None
        except sqlite3.Error:
            return False

    def _check_version(self) -> None:
        if self.version != __version__:
            raise UsageError(
                f"the store {self.path} was written by allstop {self.version}, and this is {__version__}: "
                "their runs do not belong together; go on with that one, or name another file with "
                "--store"
            )

    def _take_back_all(self, db: sqlite3.Connection) -> None:
        db.execute("UPDATE run SET state = 'waiting', tries = 0 WHERE state IN ('leased', 'given up')")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and on the disk afterwards. Nested transactions are part of the outer one."""
        if self._connection.in_transaction:
            yield self._connection
            return
        with _told(self.path, "written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite rolls back itself if the disk is full
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise

    def transaction(self) -> contextlib.AbstractContextManager[Any]:
        """Several changes as one: `with store.transaction()`."""
        return self._transaction()


@contextlib.contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    """SQLite's errors as one sentence."""
    try:
        yield
    except sqlite3.Error as error:
        why = str(error)
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
            why += ": make room on its disk"
        raise StoreError(f"the store {path} could not be {done}: {why}") from None


def _is_empty(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether it has no tables. Raises UsageError for a file that is no database."""
    try:
        return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise
        raise UsageError(f"{path} is no campaign's store: name another file") from None


def _check_kind(path: Path, connection: sqlite3.Connection) -> None:
    """Raises UsageError unless this is a store of this format."""
    _is_empty(path, connection)
    (application,), (form,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    if application != _APPLICATION:
        raise UsageError(f"{path} is a database, but no campaign's store: name another file")
    if form != _FORMAT:
        raise UsageError(f"the store {path} has format {form}, this allstop reads {_FORMAT}")


def _storable(text: str) -> str:
    """Text that SQLite accepts: no halves of surrogate pairs."""
    return text.encode(errors="replace").decode()
