# SPDX-License-Identifier: GPL-2.0-or-later
"""Children: how they are described when they die, and what is read of them while they live."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allstop.deploy.processes.members import Member, members
from allstop.deploy.processes.processes import ChildProcess, child_environment, describe_exit, words_of_the_named

pytestmark = pytest.mark.processes


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ChildProcess]:
    """Starts a child that runs the given source as if it were a module of ours."""

    def start(source: str) -> ChildProcess:
        (tmp_path / "stand_in.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        log = os.fdopen(os.memfd_create("test-log"), "r+b", buffering=0)
        return ChildProcess(Member(0, 0, 0, "stand-in", "stand_in"), 0, (), log)

    return start


def test_the_plan_starts_servers_first() -> None:
    plan = members(3)
    assert [member.name for member in plan] == ["coordinator", "devicesrv", "vcpu-0", "vcpu-1", "vcpu-2"]
    assert [member.name for member in plan if member.is_server] == ["coordinator", "devicesrv"]
    assert len({member.slot for member in plan}) == 5
    assert plan[4].arguments(7) == ("-P", "-m", "allstop.vcpu_worker", "--config-fd", "7", "--vcpu", "2")
    assert plan[0].arguments(7) == ("-P", "-m", "allstop.coordinator", "--config-fd", "7")


def test_exit_status_and_last_words(child: Callable[[str], ChildProcess], until: Any) -> None:
    process = child("import sys; print('first', file=sys.stderr); print('the \\x1b[31mlast\\n\\n'); sys.exit(3)")
    try:
        assert until(process.exit_status, "the child to leave") == 3
        assert process.last_words() == "the ?[31mlast"
    finally:
        process.close()


def test_a_silent_child_has_no_last_words_and_a_talkative_one_not_too_many(
    child: Callable[[str], ChildProcess], until: Any
) -> None:
    for source, length in (("", 0), ("print('x' * 100000)", 400)):
        process = child(source)
        try:
            until(lambda process=process: process.exit_status() is not None, "the child to leave")
            assert len(process.last_words()) == length
        finally:
            process.close()


def test_the_coordinators_sentence_gets_the_last_words_of_whom_it_names(
    child: Callable[[str], ChildProcess], until: Any
) -> None:
    children = []
    try:
        for source in ("print('why')", "", "print('not me')"):
            children.append(process := child(source))
            until(lambda process=process: process.exit_status() is not None, "the child to leave")
        named, silent, other = children
        sentence = (
            f"vCPU 2 (process {named.pid}, in the guest), vCPU 3 (process {silent.pid}, in the guest) did not "
            f"leave the guest within {other.pid} s"
        )
        assert words_of_the_named(sentence, (silent, named, other)) == '; the last words of stand-in: "why"'
        assert words_of_the_named("no process is named", (named,)) == ""
    finally:
        for process in children:
            process.close()


def test_state_and_cpu_time_are_the_kernels(child: Callable[[str], ChildProcess], until: Any) -> None:
    process = child("while True: pass")
    try:
        until(lambda: process.state()[1] > 0.05, "some CPU time")
        assert process.state()[0] == "R"
        signal.pidfd_send_signal(process.pidfd, signal.SIGSTOP)
        until(lambda: process.state()[0] == "T", "the stop")
    finally:
        process.close()
    assert process.exit_status() == -signal.SIGKILL


def test_a_child_is_deaf_to_ctrl_c_from_its_first_moment(child: Callable[[str], ChildProcess], until: Any) -> None:
    process = child("import signal, sys; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))")
    try:
        until(lambda: process.exit_status() == 0, "the child to leave")
        assert process.last_words() == "True"
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        process.close()


def test_closing_kills(child: Callable[[str], ChildProcess]) -> None:
    process = child("import time; time.sleep(1000)")
    process.close()
    assert process.exit_status() == -signal.SIGKILL


def test_ways_to_die_have_names() -> None:
    assert describe_exit(0) == "exited with status 0"
    assert describe_exit(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert describe_exit(-60) == "was killed by signal 60"


def test_our_modules_come_before_what_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    assert child_environment()["PYTHONPATH"] == f"{root}{os.pathsep}/theirs"
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    assert child_environment()["PYTHONPATH"] == f"{root}{os.pathsep}/theirs"
    monkeypatch.delenv("PYTHONPATH")
    assert child_environment()["PYTHONPATH"] == root
