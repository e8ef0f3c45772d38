# SPDX-License-Identifier: GPL-2.0-or-later
"""Campaigns of real guests on this host: each run exactly once, whichever process is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from allstop.campaign.progress import Progress, duration
from allstop.campaign.store import Counts, Row, Store
from allstop.deploy.processes.processes import child_environment
from tests.campaign.conftest import counts, started, wait_for
from tests.conftest import Command

pytestmark = pytest.mark.processes

# Ctrl-C while the session's modules are being loaded.
EARLY = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "allstop.campaign.progress":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from allstop.cli.main import main
sys.exit(main(["campaign", sys.argv[1]]))
"""


def rows_of(path: Path) -> list[Row]:
    with Store.to_read(path) as store:
        return list(store.rows())


def started_at(rows: list[Row]) -> dict[str, float]:
    return {row.combination.identity: row.result.started_at for row in rows if row.result}


def children(pid: int) -> list[int]:
    """The processes that `pid` has started; none of one that is dead."""
    try:
        return [
            child
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in map(int, (task / "children").read_text().split())
        ]
    except FileNotFoundError:
        return []


def launchers(pid: int) -> list[int]:
    """The launchers of the machines that the campaign `pid` has under way: its fork server's children."""
    return [launcher for server in children(pid) for launcher in children(server)]


def test_a_campaign_runs_everything_once_and_says_what_came_out(
    spec: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    path = spec("hello", "fail", top="repetitions = 2", text="[axes]\nvcpus = [1, 2]")
    plan = command("campaign", path, "--plan", cwd=tmp_path)
    assert plan.returncode == 0 and plan.stdout.startswith("spec: 8 runs\n  hello vcpus=1 ")
    assert not (tmp_path / "spec.store").exists()
    done = command("campaign", path, "--page", tmp_path / "page.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, ""), done.stderr
    assert [line.split()[:5] for line in done.stdout.splitlines()[1:5]] == [
        ["hello", "1", "2", "2", "0"],
        ["hello", "2", "2", "2", "0"],
        ["fail", "1", "2", "0", "2"],
        ["fail", "2", "2", "0", "2"],
    ]
    rows = rows_of(tmp_path / "spec.store")
    assert [row.epoch for row in rows] == [1] * 8
    first = rows[0].result
    assert first is not None and "hello" in first.console and first.host == os.uname().nodename
    assert json.loads(first.verdict_json)["exits"]["mmio_write"] > 0 and first.took_s > first.wall_s > 0
    page = (tmp_path / "page.html").read_text()
    assert "not all passed" in page and "http" not in page.replace("http-equiv", "")
    again = command("campaign", path, cwd=tmp_path)
    assert again.stdout == done.stdout.replace(f"{tmp_path / 'page.html'}\n", "")
    assert started_at(rows_of(tmp_path / "spec.store")) == started_at(rows), "a run was repeated"
    looked = command("campaign", "--summary", tmp_path / "spec.store", "--json")
    assert looked.returncode == 1 and json.loads(looked.stdout)["cells"][2]["verdicts"] == {"fail": 2}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["page.html", "spec.store", "spec.toml"]


def test_a_campaign_that_is_killed_goes_on_where_it_was(
    spec: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    """Would break: a run that is lost or repeated, a machine that goes on without its campaign."""
    path, store = spec("hello", top="repetitions = 8"), tmp_path / "spec.store"
    with started(command, path, cwd=tmp_path) as process:
        wait_for("some runs to be done", lambda: counts(store).done >= 2 and counts(store).leased)
        process.kill()
    before = rows_of(store)
    cut = {row.combination.identity for row in before if row.state == "leased"}
    assert cut and 2 <= len(started_at(before)) < 8
    done = command("campaign", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = rows_of(store)
    assert started_at(before).items() <= started_at(after).items(), "a run was repeated"
    assert len(started_at(after)) == 8 == len(after)
    assert {row.combination.identity for row in after if row.epoch == 2} == cut


def test_a_machine_whose_launcher_is_killed_harms_its_own_run_alone_and_that_is_tried_again(
    spec: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    path, store = spec("hello", top="repetitions = 4"), tmp_path / "spec.store"
    with started(command, path, cwd=tmp_path) as process:
        victim = wait_for("a machine", lambda: launchers(process.pid))[0]
        os.kill(victim, signal.SIGKILL)
        assert process.wait(60) == 0
    assert sorted(row.epoch for row in rows_of(store)) == [1, 1, 1, 2]


def test_a_fork_server_that_is_killed_costs_nothing_but_time(
    spec: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    path, store = spec("hello", top="repetitions = 6"), tmp_path / "spec.store"
    with started(command, path, cwd=tmp_path) as process:
        wait_for("a run to be done", lambda: counts(store).done)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert process.wait(60) == 0
    rows = rows_of(store)
    assert len(rows) == 6 and all(row.result and row.result.verdict == "pass" for row in rows)


def test_ctrl_c_lets_runs_end_and_a_second_one_does_not(
    spec: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    path, store = spec("spin", top="repetitions = 4\ntimeout_s = 2"), tmp_path / "spec.store"
    with started(command, path, "--jobs", 1, cwd=tmp_path) as process:
        wait_for("a run", lambda: counts(store).leased and launchers(process.pid))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert re.search(
        r"waiting for 1 run under way; .*\n.*1 of 4 runs are in spec\.store; the same command resumes", err.decode()
    )
    assert counts(store) == Counts(3, 0, 1, 0)
    path = spec("spin", top="repetitions = 4\ntimeout_s = 600", name="long.toml")
    with started(command, path, "--jobs", 2, cwd=tmp_path) as process:
        wait_for("runs", lambda: counts(tmp_path / "long.store").leased == 2 and len(launchers(process.pid)) == 2)
        process.send_signal(signal.SIGINT)
        line = process.stderr.readline()
        assert b"waiting for 2 runs under way" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 4
    assert counts(tmp_path / "long.store") == Counts(4, 0, 0, 0)


def test_sigterm_ends_it_at_once(spec: Callable[..., Path], command: Command, tmp_path: Path) -> None:
    path, store = spec("spin", top="timeout_s = 600"), tmp_path / "spec.store"
    with started(command, path, cwd=tmp_path) as process:
        wait_for("a run", lambda: counts(store).leased and launchers(process.pid))
        process.terminate()
        assert process.wait(20) == 4
    assert counts(store) == Counts(1, 0, 0, 0)


def test_a_full_disk_ends_it_with_a_sentence_and_it_goes_on_with_room(
    spec: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    """A real full disk: the store lies in a tmpfs of 164 KiB, in a mount namespace of the command's own."""
    wide = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*wide, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("this host does not let a test mount a tmpfs in a namespace of its own")
    path, disk = spec("hello", top="repetitions = 60"), tmp_path / "disk"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=164k none disk && "$@"; status=$?; cp disk/spec.store full.store; '
        "cp disk/spec.store-wal full.store-wal; exit $status"
    )
    done = subprocess.run(
        [
            *wide,
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-P",
            "-m",
            "allstop",
            "campaign",
            str(path),
            "--store",
            "disk/spec.store",
        ],
        cwd=tmp_path,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 4, done.stderr
    assert re.fullmatch(
        r"allstop: the store disk/spec\.store could not be written: .*: make room on its disk; .*"
        r"the same command resumes from there\n",
        done.stderr,
    ), done.stderr
    kept = counts(tmp_path / "full.store")
    assert kept.total == 60 and kept.done < 60
    shorter = spec("hello", top="repetitions = 60")
    with started(command, shorter, "--store", "full.store", cwd=tmp_path) as process:
        wait_for("it to go on", lambda: counts(tmp_path / "full.store").done > kept.done)
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name either a spec to run"),
        (["nowhere.toml"], "the spec nowhere.toml cannot be read: No such file"),
        (["spec.toml", "--jobs", "0"], "the number of jobs must be 1 to 1024"),
        (["spec.toml", "--jobs", "2", "--cluster", "tcp://127.0.0.1:1"], "--jobs is for this host"),
        (["spec.toml", "--cluster-wait", "soon", "--cluster", "tcp://127.0.0.1:1"], "--cluster-wait must be"),
        (["spec.toml", "--store", "nowhere/s"], "the store nowhere/s cannot be opened: No such file"),
        (["spec.toml", "--store", "spec.toml"], "spec.toml is no campaign's store"),
        (["spec.toml", "--page", "nowhere/p.html"], "there is no folder"),
        (["--summary", "nowhere.store"], "there is no store nowhere.store"),
        (["--summary", "spec.toml"], "spec.toml is no campaign's store"),
    ],
)
def test_what_can_not_be_is_a_sentence(
    spec: Callable[..., Path], command: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    before = spec("hello").read_bytes()
    done = command("campaign", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.toml"]
    assert (tmp_path / "spec.toml").read_bytes() == before


def test_a_terminal_gets_a_line_of_progress(spec: Callable[..., Path], command: Command, tmp_path: Path) -> None:
    path = spec("hello", top="repetitions = 3")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    try:
        done = command("campaign", path, cwd=tmp_path, stderr=theirs)
        seen = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert re.search(r"\[(#{8}\.{16}\] 1|#{16}\.{8}\] 2)/3  [12] under way  [\d.]+ runs/(s|min)  \d+ s left", seen), (
        seen
    )
    assert seen.endswith("\r\x1b[K"), "the line is taken away at the end"


def test_the_rate_does_not_count_what_an_earlier_session_did() -> None:
    progress = Progress(Counts(90, 0, 10, 0), 100.0)
    assert "left" not in progress.text(Counts(88, 2, 10, 0), 101.0)
    assert progress.text(Counts(69, 1, 29, 1), 110.0).endswith("30/100  1 under way  2.0 runs/s  35 s left  1 given up")
    assert [duration(s) for s in (0.4, 59.4, 59.6, 185, 7800)] == ["0 s", "59 s", "1:00 min", "3:05 min", "2:10 h"]


def test_ctrl_c_while_it_loads_what_it_needs_ends_it_like_any(spec: Callable[..., Path], tmp_path: Path) -> None:
    """Would break: an interrupt in the middle of an import, which Python reports as unhandled."""
    words = (sys.executable, "-P", "-c", EARLY, spec("hello", top="repetitions = 40"))
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=child_environment())
    assert done.returncode == 4
    assert done.stderr.endswith("runs are in spec.store; the same command resumes from there\n"), done.stderr
