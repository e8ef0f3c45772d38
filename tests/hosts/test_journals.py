# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals of a machine on two hosts: all of them come to the run folder, and are on one time line. On loopback.

Where time namespaces can be made the second host's clock is a day ahead, so that times which are not translated are
seen; a translation that is off by more than it says is seen everywhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allstop.deploy.hosts.journal_files import PIECE_BYTES
from allstop.deploy.processes.processes import child_environment
from allstop.deploy.run.lifecycle import LEAVE_S
from allstop.report.run import RecordedRun
from allstop.vm.journal.format import EXIT_NAMES, NO_VCPU, Event, Journal, Kind, mark_origin

AHEAD_S = 86_400
MISSING = (
    "host there: its journals did not all come, for it ended before it had sent them: what is missing or cut is "
    "that of vcpu-1"
)
EXECUTED = [EXIT_NAMES.index(name) for name in ("MMIO", "NISV", "HVC")]


def hosts_file(folder: Path, ahead_s: int = 0) -> Path:
    path = folder / "hosts.toml"
    words = ["unshare", "--time", "--monotonic", str(ahead_s), "--fork", "--kill-child"] if ahead_s else []
    path.write_text(
        '[[host]]\nname = "here"\naddress = "127.0.0.1"\n[[host]]\nname = "there"\naddress = "127.0.0.1"\n'
        f"command = {json.dumps(words)}\n"
    )
    return path


def await_that(condition: Callable[[], Any], what: str, deadline_s: float = 60.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"timed out waiting for {what}"
        time.sleep(0.01)


class Running:
    """A machine that keeps journals on two hosts, as an operator sees it."""

    def __init__(self, command: Any, image: Path, folder: Path, ahead_s: int = 0) -> None:
        self.run, self.temporary = folder / "run", folder / "temporary"
        self.temporary.mkdir()
        self._command = command
        self.process: subprocess.Popen[bytes] = command.start(
            "run",
            "--json",
            image,
            "--vcpus",
            2,
            "--timeout",
            120,
            "--run-dir",
            self.run,
            "--journal",
            "--hosts",
            hosts_file(folder, ahead_s),
            env=child_environment() | {"TMPDIR": str(self.temporary)},
        )

    def ctl(self, *words: object) -> str:
        return str(self._command("ctl", self.run, *words).stdout)

    def accesses(self) -> list[int]:
        """How often each vCPU has come to a device."""
        said = self.ctl("status", "--json") if (self.run / "control.json").exists() else ""
        assert self.process.poll() is None, self.process.communicate()
        return [vcpu["counters"]["mmio_read"] for vcpu in json.loads(said)["vcpus"]] if said else [0]

    def await_accesses(self, more: int) -> None:
        before = max(self.accesses())
        await_that(lambda: min(self.accesses()) > before + more, "both vCPUs to work")

    def member(self, words: str) -> int:
        """The process whose command line ends like this, under the launcher."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip().endswith(
                    words
                ) and self.process.pid in ancestors(int(path.parent.name)):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        assert len(found) == 1, found
        return found[0]

    def finish(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=60)
        assert out, err.decode()
        return dict(json.loads(out))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


@pytest.fixture
def running(command: Any, guests: Path, tmp_path: Path) -> Iterator[Running]:
    machine = Running(command, guests / "mmio.elf", tmp_path)
    try:
        machine.await_accesses(50)
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module")
def ahead_s() -> int:
    """By how much the second host's clock can be ahead."""
    words = ("unshare", "--time", "--monotonic", "1", "--fork", "true")
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return 0
    return 0 if done.returncode else AHEAD_S


@pytest.fixture(scope="module")
def recorded(command: Any, guests: Path, tmp_path_factory: pytest.TempPathFactory, ahead_s: int) -> Path:
    """The folder of a run of `mmio` that an operator has paused for a while in its middle, and ended."""
    machine = Running(command, guests / "mmio.elf", tmp_path_factory.mktemp("recorded"), ahead_s)
    try:
        machine.await_accesses(200)
        assert machine.ctl("pause")
        assert json.loads(machine.ctl("registers", "--json")) == json.loads(machine.ctl("registers", "--json"))
        assert machine.ctl("resume")
        machine.await_accesses(200)
        machine.ctl("stop")
        verdict = machine.finish()
    finally:
        machine.close()
    assert verdict["notes"] == [] and not list(machine.temporary.iterdir())
    return machine.run


def journal_of(run: RecordedRun, name: str) -> Journal:
    return next(journal for journal in run.journals if journal.header.name == name)


def events_of(run: RecordedRun, name: str, *kinds: Kind) -> list[Event]:
    return [event for event in journal_of(run, name).events() if event.kind in kinds]


def test_all_journals_come_and_say_whose_clock_is_theirs(recorded: Path, ahead_s: int) -> None:
    with RecordedRun(recorded) as run:
        assert run.conditions == []
        assert [journal.header.name for journal in run.journals] == [
            "coordinator",
            "devicesrv",
            "vcpu-0",
            "there/vcpu-1",
        ]
        there = journal_of(run, "there/vcpu-1").header
        assert there.error_ns is not None and 0 < there.error_ns < 50_000_000
        assert abs(there.offset_ns + ahead_s * 10**9) <= there.error_ns, "both hosts have one clock, but for the day"
        assert list(run.clocks) == [
            f"Times of host there are shown by the first host's clock, right within "
            f"{there.error_ns / 1000:.1f} us, as its clock was when the run began."
        ]


@pytest.mark.parametrize("name", ["vcpu-0", "there/vcpu-1"])
def test_an_access_is_performed_after_it_was_asked_for_and_before_it_is_answered(recorded: Path, name: str) -> None:
    with RecordedRun(recorded) as run:
        header = journal_of(run, name).header
        asked = events_of(run, name, Kind.MMIO)
        done = [event for event in events_of(run, "devicesrv", Kind.ACCESS) if event.vcpu == header.vcpu]
        assert len(asked) > 200 and abs(len(done) - len(asked)) <= 1
        for ask, access in zip(asked, done, strict=False):
            assert ask.operands[:3] == access.operands[:3]
            assert ask.t_ns - ask.took_ns <= access.t_ns - access.took_ns + (header.error_ns or 0)
            assert access.t_ns <= ask.t_ns + (header.error_ns or 0)


@pytest.mark.parametrize("name", ["vcpu-0", "there/vcpu-1"])
def test_a_stopped_world_has_nobody_in_the_guest(recorded: Path, name: str) -> None:
    """From the end of what is done for one exit to an instruction that exits again a vCPU has been in the guest."""
    with RecordedRun(recorded) as run:
        error_ns = journal_of(run, name).header.error_ns or 0
        exits = events_of(run, name, Kind.EXIT)
        paused = [
            event for event in events_of(run, "coordinator", Kind.STOPPED, Kind.RELEASED) if event.vcpu == NO_VCPU
        ]
        stops = [
            (stopped.t_ns, released.t_ns)
            for stopped, released in zip(paused, paused[1:], strict=False)
            if stopped.kind is Kind.STOPPED and released.kind is Kind.RELEASED
        ]
        assert max(end - begin for begin, end in stops) > max(100_000_000, 10 * error_ns)
    stays = [
        (before.t_ns, after.t_ns - after.took_ns)
        for before, after in zip(exits, exits[1:], strict=False)
        if after.operand("exit_kind") in EXECUTED
    ]
    assert any(end < stops[0][0] for _, end in stays) and any(begin > stops[-1][1] for begin, _ in stays)
    for begin, end in stops:
        first = bisect_left(stays, (begin + error_ns, 0))
        inside = [stay for stay in stays[first : first + 10] if stay[1] < end - error_ns]
        assert not inside, f"{len(inside)} times in the guest within a stop of {end - begin} ns"


def test_one_vcpu_at_a_time_holds_a_world_that_is_not_shared(recorded: Path) -> None:
    with RecordedRun(recorded) as run:
        error_ns = journal_of(run, "there/vcpu-1").header.error_ns or 0
        begun: dict[tuple[int, int], int] = {}
        ended: dict[tuple[int, int], int] = {}
        for event in events_of(run, "coordinator", Kind.STOPPED, Kind.RELEASED):
            times = begun if event.kind is Kind.STOPPED else ended
            times[event.vcpu, event.operand("epoch")] = event.t_ns
        held = events_of(run, "there/vcpu-1", Kind.WORLD_HELD)
        assert held
        for event in held:
            at = 1, event.operand("epoch")
            assert begun[at] <= event.t_ns - event.took_ns + error_ns
            if at not in ended:  # the run was over before the coordinator had it back
                assert event is held[-1]
                continue
            assert event.t_ns - error_ns - 50_000_000 <= ended[at], "its end is written after the release is sent"


def test_report_and_trace_show_the_vcpus_of_all_hosts(recorded: Path, tmp_path: Path, command: Any) -> None:
    page, trace = tmp_path / "r.html", tmp_path / "t.json"
    for words in (("report", recorded, "-o", page), ("trace", recorded, "-o", trace)):
        done = command(*words)
        assert (done.returncode, done.stderr) == (0, "")
    text = page.read_text()
    assert '"there/vcpu-1"' in text, "its lane"
    assert "<td>there/vcpu-1</td>" in text and "Times of host there are shown by the first host" in text
    rows = json.loads(trace.read_text())["traceEvents"]
    numbers = {row["args"]["name"].partition(" ")[0]: row["pid"] for row in rows if row["name"] == "process_name"}
    assert list(numbers) == ["coordinator", "devicesrv", "vcpu-0", "there/vcpu-1"]
    times = {
        name: [row["ts"] for row in rows if row["pid"] == number and row["ph"] in "Xi"]
        for name, number in numbers.items()
    }
    assert min(map(min, times.values())) >= 0 and max(map(max, times.values())) < 120e6
    assert abs(max(times["vcpu-0"]) - max(times["there/vcpu-1"])) < 20e6


def test_a_host_that_is_killed_costs_its_journals_only(running: Running, command: Any) -> None:
    assert not list(running.temporary.iterdir()), "what a killed host would leave"
    os.kill(running.member("-m allstop.deploy.hosts.agent"), signal.SIGKILL)
    verdict = running.finish()
    assert verdict["verdict"] == "lost" and "the agent of host there was killed by SIGKILL" in verdict["sentence"]
    assert [note for note in verdict["notes"] if "journal" in note] == [MISSING]
    assert not list(running.temporary.iterdir())
    with RecordedRun(running.run) as run:
        assert [journal.header.name for journal in run.journals] == ["coordinator", "devicesrv", "vcpu-0"]
        assert "there/vcpu-1 has no journal that can be read" in run.conditions
    done = command("report", running.run)
    assert done.returncode == 0 and MISSING in (running.run / "report.html").read_text()


def test_what_a_killed_worker_of_another_host_has_written_comes(running: Running) -> None:
    os.kill(running.member("--vcpu 1"), signal.SIGKILL)
    verdict = running.finish()
    assert verdict["verdict"] == "lost" and not [note for note in verdict["notes"] if "journal" in note], verdict
    with RecordedRun(running.run) as run:
        count = journal_of(run, "there/vcpu-1").count
        assert count > 50 and journal_of(run, "there/vcpu-1").damaged == 0
        said = [sentence for sentence in run.conditions if "there/vcpu-1" in sentence]
    assert len(said) == 1 and said[0].startswith(
        f"there/vcpu-1.journal was not closed, for its process was killed or still runs: all of its {count} records "
        "are there"
    )


@pytest.fixture
def stubbed(command: Any, guests: Path, tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Runs `hello` with journals, on a second host whose agent goes wrong so; the verdict's notes."""

    def run(step: str, act: str) -> list[str]:
        file = hosts_file(tmp_path)
        stub = json.dumps([sys.executable, str(Path(__file__).parent / "stub_agent.py"), step, act])
        file.write_text(file.read_text().replace("command = []", f"command = {stub}"))
        done = command(
            "run",
            "--json",
            guests / "hello.elf",
            "--vcpus",
            2,
            "--timeout",
            60,
            "--hosts",
            file,
            "--run-dir",
            tmp_path / "run",
            "--journal",
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["notes"])

    return run


def test_a_host_that_sends_what_is_no_journal_harms_nobody(
    stubbed: Callable[[str, str], list[str]], tmp_path: Path
) -> None:
    """It has the keys of the run, and says whatever it likes: nothing is written that it should not have sent."""
    notes = stubbed("journals", "-")
    for words in (
        "a piece of a journal before JournalsBegun",
        "a journal of a vCPU that is not on its sender's host",
        "a journal of a size that it cannot have",
        "a piece of a journal that is not the next one",
    ):
        assert any(re.fullmatch(rf"host there: refused \d+ x {words}", note) for note in notes), notes
    assert sorted(path.name for path in (tmp_path / "run" / "there").iterdir()) == [
        "node.log",
        "vcpu-1.journal",
        "vcpu-1.log",
    ]
    with RecordedRun(tmp_path / "run") as run:
        assert run.conditions == [], "the real one came after all that"


def test_journals_may_take_longer_than_processes_to_leave(
    stubbed: Callable[[str, str], list[str]], tmp_path: Path
) -> None:
    pieces = int(2 * LEAVE_S / 0.4)  # as slow as that the stub is
    assert stubbed("slow", str(pieces * PIECE_BYTES)) == []
    assert (tmp_path / "run" / "there" / "vcpu-1.journal").stat().st_size == pieces * PIECE_BYTES


def test_a_launcher_that_is_killed_leaves_no_journal_on_another_host(running: Running) -> None:
    agent = running.member("-m allstop.deploy.hosts.agent")
    running.process.kill()
    running.process.communicate()
    status = Path(f"/proc/{agent}/status")
    await_that(lambda: not status.exists() or "\nState:\tZ" in status.read_text(), "the agent to end", 10.0)
    assert not list(running.temporary.iterdir())


def test_a_clock_that_nobody_compared_is_said(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    path = copy / "there" / "vcpu-1.journal"
    with path.open("r+b") as file:
        mark_origin(file.fileno(), "there", 0, 0)
    with RecordedRun(copy) as run:
        assert list(run.clocks) == [
            "Times of host there are shown by the first host's clock, and the error is unknown."
        ]
    path.unlink()
    with RecordedRun(copy) as run:
        assert run.conditions == ["there/vcpu-1 has no journal that can be read"] and list(run.clocks) == []


def test_a_folder_of_a_run_on_one_host_is_read_as_before(recorded: Path, tmp_path: Path) -> None:
    """Also of an allstop whose run.json knows of no hosts."""
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    record = json.loads((copy / "run.json").read_text())
    for hosts in (None, 0):
        record["config"].pop("hosts", None)
        if hosts is None:
            record["config"]["hosts"] = None
        (copy / "run.json").write_text(json.dumps(record))
        with RecordedRun(copy) as run:
            assert [journal.header.name for journal in run.journals] == ["coordinator", "devicesrv", "vcpu-0"]
            assert run.conditions == [] and run.processes == list(run.commands)
