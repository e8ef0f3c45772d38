# SPDX-License-Identifier: GPL-2.0-or-later
"""Campaigns on a real Dask cluster, started by the commands of deploy/, and what becomes of them when its parts die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from allstop.campaign.cluster import DaskExecutor
from allstop.campaign.result import Lease
from allstop.campaign.store import MAX_TRIES, Counts, Row, Store
from allstop.deploy.processes.processes import child_environment
from tests.campaign.conftest import ROOT, Cluster, commands_of, counts, started, wait_for
from tests.conftest import Command

pytestmark = pytest.mark.processes


def rows_of(path: Path) -> list[Row]:
    with Store.to_read(path) as store:
        return list(store.rows())


def processes_with(word: str) -> dict[int, str]:
    """Process numbers and command lines in which `word` stands."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in line:
                found[int(entry.name)] = line
    return found  # a dead process has no command line, waited for or not


def workers_with_machines(pids: set[int]) -> dict[int, int]:
    """A machine's launcher by the Dask worker, below `pids`, that has it."""
    found = {}
    for pid in processes_with("allstop.cli.main run --json"):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if _has_ancestor(parent, pids):
            found[parent] = pid
    return found


def _has_ancestor(pid: int, pids: set[int]) -> bool:
    while pid > 1:
        if pid in pids:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def test_the_command_of_the_examples_runs_a_campaign(
    spec: Callable[..., Path], cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    """The words of deploy/kubernetes/campaign.yaml, with paths of our own."""
    path = spec("hello", top="repetitions = 3", text="[axes]\nvcpus = [1, 2]")
    (words,) = commands_of("campaign.yaml")
    assert words[:2] == ["allstop", "campaign"]
    places = {
        "/spec/campaign.toml": path,
        "/store/campaign.store": tmp_path / "c.store",
        "/store/campaign.html": tmp_path / "c.html",
        "tcp://allstop-scheduler:8786": cluster.address,
    }
    done = command(*(places.get(word, word) for word in words[1:]))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert counts(tmp_path / "c.store") == Counts(0, 0, 6, 0)
    assert [row.epoch for row in rows_of(tmp_path / "c.store")] == [1] * 6
    assert (tmp_path / "c.html").exists()


def test_runs_whose_worker_is_killed_are_run_again_elsewhere(
    spec: Callable[..., Path], cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    path, store = spec("spin", top="timeout_s = 4\nrepetitions = 4"), tmp_path / "spec.store"
    with started(command, path, "--cluster", cluster.address, cwd=tmp_path) as process:
        pids = {other.pid for other in cluster._processes}
        victim = wait_for("a worker with a machine", lambda: counts(store).leased == 4 and workers_with_machines(pids))
        worker, launcher = next(iter(victim.items()))
        os.kill(worker, signal.SIGKILL)
        wait_for("its machine to end", lambda: launcher not in processes_with("allstop.cli.main run"))
        assert process.wait(90) == 1
    rows = rows_of(store)
    assert [row.result.verdict for row in rows if row.result] == ["timeout"] * 4
    assert max(row.epoch for row in rows) == 2 and 1 <= sum(row.epoch == 2 for row in rows) <= 2


def test_a_campaign_that_is_killed_leaves_nothing_on_the_cluster_and_goes_on(
    spec: Callable[..., Path], cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    """Would break: machines that run on without their campaign, and hold up the next one."""
    path, store = spec("spin", top="timeout_s = 300\nrepetitions = 2"), tmp_path / "spec.store"
    pids = {other.pid for other in cluster._processes}
    with started(command, path, "--cluster", cluster.address, cwd=tmp_path) as process:
        wait_for("both runs to be under way", lambda: len(workers_with_machines(pids)) == 2)
        process.kill()
    wait_for("the machines to end", lambda: not workers_with_machines(pids))
    with started(command, path, "--cluster", cluster.address, cwd=tmp_path) as process:
        wait_for("both runs to be under way again", lambda: len(workers_with_machines(pids)) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 4
    wait_for("the machines to end", lambda: not workers_with_machines(pids))
    assert counts(store) == Counts(2, 0, 0, 0) and {row.epoch for row in rows_of(store)} == {2}


def test_without_its_scheduler_a_campaign_ends_with_a_sentence_and_goes_on_here(
    spec: Callable[..., Path], empty_cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    cluster = empty_cluster
    cluster.start(*commands_of("workers.yaml"))
    path, store = spec("hello", top="repetitions = 8"), tmp_path / "spec.store"
    with started(command, path, "--cluster", cluster.address, cwd=tmp_path) as process:
        wait_for("a run to be done", lambda: counts(store).done)
        cluster._processes[0].kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4 and len(err.decode().splitlines()) == 1, err
    assert f"the Dask scheduler at {cluster.address} is gone" in err.decode() and "resumes from there" in err.decode()
    before = {row.combination.identity: row.result for row in rows_of(store) if row.result}
    assert command("campaign", path, cwd=tmp_path).returncode == 0
    after = {row.combination.identity: row.result for row in rows_of(store)}
    assert len(after) == 8 and before.items() <= after.items()


def test_a_run_that_kills_its_workers_is_given_up(
    spec: Callable[..., Path], cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    path, store = spec("spin", top="timeout_s = 300"), tmp_path / "spec.store"
    for _ in range(MAX_TRIES - 1):  # one is left
        cluster.start(*commands_of("workers.yaml"))
    pids = {other.pid for other in cluster._processes}
    with started(command, path, "--cluster", cluster.address, cwd=tmp_path) as process:
        killed: set[int] = set()
        while len(killed) < MAX_TRIES:
            worker = wait_for("a worker with the machine", lambda: set(workers_with_machines(pids)) - killed).pop()
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        assert process.wait(60) == 4
    (row,) = rows_of(store)
    assert row.state == "given up" and row.epoch == MAX_TRIES and "is gone" in row.lost


def test_a_cluster_without_workers_is_a_sentence_in_bounded_time(
    spec: Callable[..., Path], empty_cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    done = command("campaign", spec("hello"), "--cluster", empty_cluster.address, "--cluster-wait", 1, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith(f"allstop: the cluster at {empty_cluster.address} has had no worker for 1 s: start")
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_while_it_waits_for_workers_ends_it(
    spec: Callable[..., Path], empty_cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    with started(command, spec("hello"), "--cluster", empty_cluster.address, cwd=tmp_path) as process:
        wait_for("the store", lambda: counts(tmp_path / "spec.store").waiting)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 4


def test_workers_with_another_allstop_get_no_runs(
    spec: Callable[..., Path], empty_cluster: Cluster, command: Command, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "allstop"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "0.0.1"\n')
    empty_cluster.start(*commands_of("workers.yaml"), PYTHONPATH=str(other.parent))
    done = command("campaign", spec("hello"), "--cluster", empty_cluster.address, cwd=tmp_path)
    assert done.returncode == 4
    *notes, last = done.stderr.splitlines()
    assert notes and all("has allstop 0.0.1, not " in note for note in notes)
    assert "do not have allstop" in last and "install it there" in last


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        ("tcp://127.0.0.1:1", 4, "there is no Dask scheduler at tcp://127.0.0.1:1"),
        ("localhost", 2, "a cluster is named by its scheduler's address"),
        ("tcp://", 2, "a cluster is named by its scheduler's address"),
    ],
)
def test_no_scheduler_is_a_sentence_in_bounded_time(
    spec: Callable[..., Path], command: Command, tmp_path: Path, address: str, status: int, sentence: str
) -> None:
    pytest.importorskip("distributed", reason="Dask distributed is not installed")
    done = command("campaign", spec("hello"), "--cluster", address, cwd=tmp_path, deadline_s=40)
    assert done.returncode == status and sentence in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_without_the_extra_it_says_what_to_install(spec: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['distributed'] = None\n")
    environment = child_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}"
    path = str(spec("hello"))
    for extra, status, said in (([], 0, ""), (["--cluster", "tcp://127.0.0.1:1"], 2, "pip install 'allstop[cluster]'")):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "allstop", "campaign", path, "--store", f"s{len(extra)}", *extra],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status and said in done.stderr, done.stderr


def test_the_slurm_job_runs_a_campaign(spec: Callable[..., Path], empty_cluster: Cluster, tmp_path: Path) -> None:
    """The script itself, with an srun that starts its program here, once."""
    empty_cluster.close()
    path = spec("hello", top="repetitions = 3")
    programs = tmp_path / "bin"
    programs.mkdir()
    run = f'exec "{sys.executable}" -P -m'
    for name, text in (
        ("srun", 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n'),
        ("dask", f'{run} dask "$@"\n'),
        ("allstop", f'{run} allstop "$@"\n'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "slurm" / "campaign.sbatch"), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=child_environment()
        | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURMD_NODENAME": "127.0.0.1",
            "SLURM_JOB_ID": "1",
            "ALLSTOP_PORT": str(empty_cluster.port),
            "TMPDIR": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert counts(tmp_path / "spec.store") == Counts(0, 0, 3, 0) and (tmp_path / "spec.html").exists()


def test_a_lease_for_a_cluster_that_has_just_gone_is_void() -> None:
    """Would break: an internal error when a lease comes after the loop has closed."""
    executor = DaskExecutor.__new__(DaskExecutor)
    executor._loop = asyncio.new_event_loop()
    executor._loop.close()
    executor.start(cast(Lease, None))
