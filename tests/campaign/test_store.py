# SPDX-License-Identifier: GPL-2.0-or-later
"""The store takes each run's result once, from the newest attempt alone, and survives what may happen to its disk."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.campaign.combination import Combination
from allstop.campaign.result import Lease, Result
from allstop.campaign.store import _SCHEMA, MAX_TRIES, Counts, Store, StoreError
from allstop.deploy.processes.processes import child_environment
from allstop.vm.errors import UsageError

RESULT = Result("pass", "because", 0.5, "{}", "hello\n", "here", 1.0, 0.7)


def planned(count: int) -> list[Combination]:
    return [Combination("guest", "none", {"image": "00"}, {"seed": seed}, 1, 10.0) for seed in range(count)]


def made(path: Path, count: int = 3) -> Store:
    store = Store.to_write(path)
    store.plan("test", planned(count), {"00": b"image"})
    return store


def test_a_run_is_done_once_and_only_by_its_newest_attempt(tmp_path: Path) -> None:
    """Would break: a result of a lost attempt that comes late and is counted beside the new one's, or instead of it."""
    with made(tmp_path / "s", 1) as store:
        (old,) = store.lease(5)
        assert store.lease(5) == []
        assert store.lose(old, "its worker is gone")
        assert not store.complete(old, RESULT)
        (new,) = store.lease(5)
        assert (old.epoch, new.epoch) == (1, 2)
        assert not store.complete(old, replace(RESULT, sentence="late")) and not store.lose(old, "late")
        assert store.complete(new, RESULT)
        assert not store.complete(new, replace(RESULT, sentence="twice"))
        assert store.counts() == Counts(0, 0, 1, 0)
        (row,) = store.rows()
        assert row.result == RESULT and row.epoch == 2


def test_what_was_leased_waits_again_in_the_next_session_and_its_old_result_is_refused(tmp_path: Path) -> None:
    with made(tmp_path / "s") as store:
        old = store.lease(2)
        assert store.complete(old[0], RESULT)
    with Store.to_write(tmp_path / "s") as store:
        store.plan("test", planned(3), {})
        assert store.counts() == Counts(2, 0, 1, 0)
        assert not store.complete(old[1], RESULT)
        assert {lease.epoch for lease in store.lease(9)} == {1, 2}
        assert store.contents() == {"00": b"image"}


def test_a_run_whose_attempts_are_lost_is_given_up_and_gets_new_ones_in_the_next_session(tmp_path: Path) -> None:
    with made(tmp_path / "s", 1) as store:
        for _ in range(MAX_TRIES):
            (lease,) = store.lease(1)
            store.lose(lease, "gone")
        assert store.lease(1) == [] and store.counts() == Counts(0, 0, 0, 1)
        assert [row.lost for row in store.rows()] == ["gone"]
        store.resume()
        assert [lease.epoch for lease in store.lease(1)] == [MAX_TRIES + 1]


def test_a_lease_that_is_taken_back_costs_no_try(tmp_path: Path) -> None:
    with made(tmp_path / "s", 1) as store:
        for _ in range(2 * MAX_TRIES):
            store.take_back(store.lease(1))
        assert store.counts() == Counts(1, 0, 0, 0)


@given(st.lists(st.tuples(st.sampled_from(("lease", "complete", "lose", "session")), st.integers(0, 7)), max_size=40))
def test_whatever_happens_no_run_is_lost_or_counted_twice(steps: list[tuple[str, int]]) -> None:
    """Any order of leases, results (late ones too), losses and new sessions."""
    with _in_memory() as store:
        leases: list[Lease] = []
        accepted: list[str] = []
        for step, at in steps:
            if step == "lease":
                leases += store.lease(at % 3)
            elif step == "session":
                store.resume()
            elif leases and step == "lose":
                store.lose(leases[at % len(leases)], "gone")
            elif leases:
                lease = leases[at % len(leases)]
                if store.complete(lease, RESULT):
                    accepted.append(lease.combination.identity)
        assert len({lease.name for lease in leases}) == len(leases)
        assert len(set(accepted)) == len(accepted) == store.counts().done
        assert store.counts().total == 3
        store.resume()
        while found := store.lease(1):
            assert store.complete(found[0], RESULT)
        assert store.counts() == Counts(0, 0, 3, 0)


def _in_memory() -> Store:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(_SCHEMA)
    store = Store(Path("memory"), connection, -1, False)
    store.plan("test", planned(3), {})
    return store


def test_another_campaign_is_refused_unless_its_runs_are_to_be_added(tmp_path: Path) -> None:
    with made(tmp_path / "s", 2) as store:
        (lease,) = store.lease(1)
        store.complete(lease, RESULT)
        with pytest.raises(UsageError, match=r"has another campaign: 0 of its 2 runs .* 1 of the spec's 3 .*--extend"):
            store.plan("test", planned(3), {})
        assert store.counts().total == 2
        store.plan("test", planned(3), {}, extend=True)
        assert store.counts() == Counts(2, 0, 1, 0)


def test_one_campaign_writes_and_others_may_look(tmp_path: Path) -> None:
    with made(tmp_path / "s") as store:
        with pytest.raises(UsageError, match="another campaign is writing"):
            Store.to_write(tmp_path / "s")
        store.lease(1)
        with Store.to_read(tmp_path / "s") as looking:
            assert looking.counts() == Counts(2, 1, 0, 0)
    made(tmp_path / "s").__exit__(None, None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_another_version_of_allstop_does_not_add_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "s").__exit__(None, None, None)
    monkeypatch.setattr("allstop.campaign.store.__version__", "9.9")
    refused = pytest.raises(UsageError, match=r"written by allstop .* this is 9\.9")
    with refused, Store.to_write(tmp_path / "s") as store:
        store.plan("test", planned(3), {})


@pytest.mark.parametrize("content", [b"", b"no database" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_what_is_no_store_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    with pytest.raises((UsageError, StoreError)):
        Store.to_read(path)
    if content:
        with pytest.raises((UsageError, StoreError)):
            Store.to_write(path)
        assert path.read_bytes() == content


def test_another_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for opened in (Store.to_read, Store.to_write):
        with pytest.raises(UsageError, match="no campaign's store"):
            opened(tmp_path / "s")


def test_a_full_disk_is_one_sentence_and_what_was_stored_stays(tmp_path: Path) -> None:
    """SQLite's own limit stands for the disk: every write beyond it fails as on a full one."""
    with made(tmp_path / "s", 200) as store:
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        taken = 0
        with pytest.raises(StoreError, match="could not be written: database or disk is full: make room"):
            for lease in store.lease(200):
                assert store.complete(lease, replace(RESULT, console="x" * 1000))
                taken += 1
        assert store.counts().done == taken > 0
    with Store.to_write(tmp_path / "s") as store:
        store.plan("test", planned(200), {})
        assert store.counts() == Counts(200 - taken, 0, taken, 0)


LIMITED = """
import sys
from pathlib import Path
from allstop.campaign.store import Store, StoreError
from tests_store import RESULT, planned
from allstop.vm.errors import HarnessError
try:
    with Store.to_write(Path(sys.argv[1])) as store:
        store.plan("test", planned(200), {})
        for lease in store.lease(200):
            store.complete(lease, RESULT)
except HarnessError as error:
    sys.exit(str(error))
"""


@pytest.mark.processes
def test_a_file_that_may_not_grow_is_one_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "tests_store.py").write_text(Path(__file__).read_text())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "s")],
        cwd=tmp_path,
        preexec_fn=limit,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "could not be written" in done.stderr and "Traceback" not in done.stderr, done.stderr
    with Store.to_write(tmp_path / "s") as store:
        store.plan("test", planned(200), {})
        assert 0 < store.counts().waiting < 200 and store.counts().total == 200
