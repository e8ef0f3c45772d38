# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetch without a syndrome, policy by policy, on traps of a real vCPU; the coordinator is a fake that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allstop.vcpu_worker.engine import EXIT_NISV, EXIT_REQUEST, EngineError, Exit, Vcpu
from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vcpu_worker.fetch.fetch import Fetch, FetchStuckError
from allstop.vcpu_worker.fetch.fetch_handler import FetchHandlerError
from allstop.vcpu_worker.fetch.instruction_reader import InstructionReader
from allstop.vcpu_worker.liveness import RunIsOver
from allstop.vm.arm import psr
from allstop.vm.arm.execution import Plan
from allstop.vm.config.specs import HandlerSpec
from allstop.vm.memory.guest_memory import GuestMemory
from allstop.vm.wire.messages import Message, ReleaseWorld, StopWorld, Violated, WorldStopped
from tests.vcpu_worker.contexts import context

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

LOAD = 0xE4910004  # ldr r0, [r1], #4
OTHER_LOAD = 0xE4912008  # ldr r2, [r1], #8
ELSEWHERE = 0xE5B10004  # ldr r0, [r1, #4]!
BELOW = 0xE5310004  # ldr r0, [r1, #-4]!
STORE = 0xE4810004  # str r0, [r1], #4
NOT_AN_ACCESS = 0xE2800001  # add r0, r0, #1
MULTIPLE = 0xE8B10005  # ldm r1!, {r0, r2}
VA = 0x1230_0000


@dataclass
class FakeLinks:
    """Stands for the coordinator: grants the world, after `before_grant`."""

    before_grant: Callable[[], object] = lambda: None
    told: list[Message] = field(default_factory=list)

    def tell(self, message: Message) -> None:
        self.told.append(message)

    def stop_world(self, reason: str, may_share: bool) -> WorldStopped:
        self.tell(StopWorld(reason, may_share))
        self.before_grant()
        return WorldStopped(len(self.told))

    @property
    def kinds(self) -> list[str]:
        """What was told."""
        return [message.__class__.__name__ for message in self.told]


class Scene:
    """A vCPU that trapped with `word` at CODE, and a Fetch with a policy."""

    def __init__(self, machine: Machine, word: int = LOAD, thumb: bool = False, **named: Any) -> None:
        self.machine = machine
        self.links = FakeLinks()
        self.vcpu = machine.vcpu()
        here = context(machine, self.vcpu, self.links, **named)
        self.fetch = Fetch(here, EventPerformer(here))
        (machine.put_thumb if thumb else machine.put)(machine.CODE, word)
        self.vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
        self.vcpu.power_on(machine.CODE | thumb, 0, machine.DEVICE, 0)
        self.vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR

    def trap(self) -> Exit:
        """Run to the trap."""
        leave = self.vcpu.run()
        assert leave.kind == EXIT_NISV, leave
        return leave

    def invalidate(self) -> None:
        """Another vCPU's TLB invalidation has begun, and is done."""
        self.vcpu.shootdown()

    def counters(self) -> dict[str, int]:
        """Those of the fetch that are not zero."""
        names = ("fetch_retry", "fetch_refused", "fetch_disagreed", "fetch_wrong", "abort_injected")
        return {name: n for name in names if (n := self.machine.counter(name))}

    def untouched(self, trap: Exit) -> bool:
        """Whether the vCPU will try the same instruction again."""
        core = self.vcpu.core()
        return core[15] == trap.pc and core[16] == trap.cpsr and core[1] == self.machine.DEVICE


def text(planned: Plan | Exit | None) -> str:
    """The instruction of a plan."""
    assert isinstance(planned, Plan)
    return str(planned.instruction)


@pytest.mark.parametrize("policy", ["stop-world", "unprotected", "validate"])
def test_what_is_in_memory_is_planned(machine: Machine, policy: str) -> None:
    scene = Scene(machine, fetch=policy)
    trap = scene.trap()
    planned = scene.fetch.plan(trap)
    assert text(planned) == "ldr r0, [r1], #4" and isinstance(planned, Plan)
    assert [(access.address, access.size) for access in planned.accesses] == [(machine.DEVICE, 4)]
    assert scene.counters() == {} and scene.untouched(trap)
    assert scene.links.kinds == (["StopWorld", "ReleaseWorld"] if policy == "stop-world" else [])
    assert sum(machine.page.histogram(0, machine.page.HISTOGRAM_FETCH)) == 1


def test_readers_share_the_stopped_world(machine: Machine) -> None:
    scene = Scene(machine)
    scene.fetch.plan(scene.trap())
    stop, release = scene.links.told
    assert isinstance(stop, StopWorld) and stop.may_share
    assert release == ReleaseWorld(1)


def test_the_world_is_given_back_whatever_happens(machine: Machine) -> None:
    scene = Scene(machine)
    trap = scene.trap()
    scene.links.before_grant = scene.vcpu.close
    with pytest.raises(EngineError):
        scene.fetch.plan(trap)
    assert scene.links.kinds == ["StopWorld", "ReleaseWorld"]


def test_the_end_of_the_run_is_no_reason_to_release(machine: Machine) -> None:
    scene = Scene(machine)
    trap = scene.trap()

    def over() -> None:
        raise RunIsOver

    scene.links.before_grant = over
    with pytest.raises(RunIsOver):
        scene.fetch.plan(trap)
    assert scene.links.kinds == ["StopWorld"]


@pytest.mark.parametrize("now", [STORE, ELSEWHERE, BELOW], ids=["other direction", "address above", "address below"])
def test_an_instruction_that_can_not_have_trapped_is_tried_again(machine: Machine, now: int) -> None:
    scene = Scene(machine)
    trap = scene.trap()
    machine.put(machine.CODE, now)
    assert scene.fetch.plan(trap) is None
    assert scene.counters() == {"fetch_disagreed": 1} and scene.untouched(trap)
    assert "Violated" not in scene.links.kinds


def test_unprotected_it_is_believed(machine: Machine) -> None:
    """The bug of 2013; the oracle says so."""
    scene = Scene(machine, fetch="unprotected")
    trap = scene.trap()
    machine.put(machine.CODE, STORE)
    assert text(scene.fetch.plan(trap)) == "str r0, [r1], #4"
    (violation,) = scene.links.told
    assert isinstance(violation, Violated)
    assert "executed `ldr r0, [r1], #4`" in violation.sentence and "`str r0, [r1], #4`" in violation.sentence
    assert scene.counters() == {"fetch_wrong": 1}


def test_the_oracle_sees_what_the_checks_can_not(machine: Machine) -> None:
    """Another load from the same address, written without an invalidation: only the engine knows."""
    scene = Scene(machine)
    trap = scene.trap()
    machine.put(machine.CODE, OTHER_LOAD)
    assert text(scene.fetch.plan(trap)) == "ldr r2, [r1], #8"
    assert scene.counters() == {"fetch_wrong": 1}
    assert scene.links.kinds == ["StopWorld", "ReleaseWorld", "Violated"]


def test_the_oracle_only_counts_where_the_run_shall_go_on(machine: Machine) -> None:
    scene = Scene(machine, fetch="unprotected", keep_going=True)
    trap = scene.trap()
    machine.put(machine.CODE, STORE)
    scene.fetch.plan(trap)
    assert scene.links.told == [] and scene.counters() == {"fetch_wrong": 1}


def test_what_the_decoder_refuses_is_a_data_abort(machine: Machine) -> None:
    """As the patch of 2013 did with a multiple."""
    scene = Scene(machine, MULTIPLE, decode="kvm")
    trap = scene.trap()
    assert scene.fetch.plan(trap) is None
    core = scene.vcpu.core()
    assert (core[15], core[14], core[16] & 0x1F) == (machine.VECTORS + 0x10, trap.pc + 8, psr.Mode.ABORT)
    assert (scene.vcpu.cp15(6, 0, 0, 0), scene.vcpu.cp15(5, 0, 0, 0)) == (machine.DEVICE, 0x008)  # DFAR, DFSR
    assert scene.counters() == {"fetch_refused": 1, "abort_injected": 1}


def test_the_full_decoder_does_not_refuse_it(machine: Machine) -> None:
    scene = Scene(machine, MULTIPLE)
    assert text(scene.fetch.plan(scene.trap())) == "ldmia r1!, {r0, r2}"


def test_abort_fetches_nothing(machine: Machine) -> None:
    scene = Scene(machine, STORE, fetch="abort")
    trap = scene.trap()
    assert scene.fetch.plan(trap) is None
    assert scene.links.told == [] and scene.counters() == {"abort_injected": 1}
    assert (scene.vcpu.cp15(6, 0, 0, 0), scene.vcpu.cp15(5, 0, 0, 0)) == (machine.DEVICE, 0x808)  # DFAR, DFSR


def test_an_invalidation_before_the_stop_has_it_tried_again_alone(machine: Machine) -> None:
    """The page may be another one by now. Alone in the world, the vCPU traps where nothing can have changed since."""
    scene = Scene(machine)
    trap = scene.trap()

    def invalidate_once() -> None:
        scene.links.before_grant = lambda: machine.page.post(0, machine.page.STOP)
        scene.vcpu.write_ram(machine.CODE, OTHER_LOAD.to_bytes(4, "little"))
        scene.invalidate()

    scene.links.before_grant = invalidate_once
    assert text(scene.fetch.plan(trap)) == "ldr r2, [r1], #8"
    assert [message.may_share for message in scene.links.told if isinstance(message, StopWorld)] == [True, False]
    assert scene.links.kinds == ["StopWorld", "ReleaseWorld"] * 2
    assert scene.counters() == {"fetch_retry": 1}, "what is emulated is what was executed"


def test_alone_it_may_come_to_something_else(machine: Machine) -> None:
    scene = Scene(machine)
    trap = scene.trap()

    def invalidate_once() -> None:
        scene.links.before_grant = lambda: None
        scene.vcpu.write_ram(machine.CODE, NOT_AN_ACCESS.to_bytes(4, "little"))
        machine.page.post(0, machine.page.EVENT)
        scene.invalidate()

    scene.links.before_grant = invalidate_once
    leave = scene.fetch.plan(trap)
    assert isinstance(leave, Exit) and leave.kind == EXIT_REQUEST
    assert scene.links.kinds == ["StopWorld", "ReleaseWorld"] * 2


def test_validate_tries_again_and_stops_the_world_in_the_end(machine: Machine) -> None:
    scene = Scene(machine, fetch="validate")
    retries = 0
    while True:
        trap = scene.trap()
        scene.invalidate()
        planned = scene.fetch.plan(trap)
        if planned is not None:
            break
        assert scene.links.told == [] and scene.untouched(trap)
        retries += 1
    assert text(planned) == "ldr r0, [r1], #4" and 1 < retries < 100
    assert scene.links.kinds == ["StopWorld", "ReleaseWorld"] * 2
    assert scene.counters() == {"fetch_retry": retries + 1}


def map_va(machine: Machine, vcpu: Vcpu, *pages: int) -> None:
    """Turn the MMU on, with these pages at VA; 0 is none."""
    machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section
    machine.put(machine.TABLES + 4 * (machine.DEVICE >> 20), machine.DEVICE | 0xC02)  # section
    machine.put(machine.TABLES + 4 * (VA >> 20), machine.TABLES + 0x4000 | 1)
    machine.put(machine.TABLES + 0x4000, *(page and page | 0x32 for page in pages))  # small pages
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])


@pytest.mark.parametrize("policy", ["stop-world", "unprotected", "validate"])
def test_an_address_that_does_not_translate_any_more_is_tried_again(machine: Machine, policy: str) -> None:
    scene = Scene(machine, fetch=policy)
    map_va(machine, scene.vcpu, machine.CODE)
    scene.vcpu.set_core(15, VA)
    trap = scene.trap()
    machine.put(machine.TABLES + 0x4000, 0)
    assert scene.fetch.plan(trap) is None
    assert scene.counters() == {"fetch_retry": 1} and scene.untouched(trap)


def test_an_instruction_of_two_pages_needs_both(machine: Machine) -> None:
    scene = Scene(machine, thumb=True)
    one, other = machine.DATA, machine.DATA + 0x5000
    machine.put_thumb(one + 0xFFE, 0xF851)  # ldr r0, [r1], #4
    machine.put_thumb(other, 0x0B04)
    map_va(machine, scene.vcpu, one, other)
    scene.vcpu.set_core(15, VA + 0xFFE)
    trap = scene.trap()
    assert trap.instruction == 0xF8510B04
    assert text(scene.fetch.plan(trap)) == "ldr r0, [r1], #4"
    machine.put(machine.TABLES + 0x4004, 0)
    assert scene.fetch.plan(trap) is None
    assert scene.counters() == {"fetch_retry": 1}


def test_a_short_instruction_at_the_end_of_a_page_needs_one(machine: Machine) -> None:
    scene = Scene(machine, thumb=True)
    machine.put_thumb(machine.DATA + 0xFFE, 0xC905)  # ldm r1!, {r0, r2}
    map_va(machine, scene.vcpu, machine.DATA, 0)
    scene.vcpu.set_core(15, VA + 0xFFE)
    assert text(scene.fetch.plan(scene.trap())) == "ldmia r1!, {r0, r2}"


def test_code_that_has_moved_out_of_memory_is_tried_again(machine: Machine) -> None:
    """Its page translates, to where there is no RAM."""
    scene = Scene(machine, fetch="unprotected")
    map_va(machine, scene.vcpu, machine.CODE)
    scene.vcpu.set_core(15, VA)
    trap = scene.trap()
    machine.put(machine.TABLES + 0x4000, machine.DEVICE | 0x32)  # small page
    assert scene.fetch.plan(trap) is None


def test_a_decoder_that_is_wrong_is_found_out(machine: Machine) -> None:
    scene = Scene(machine, fetch="validate")
    trap = scene.trap()
    machine.put(machine.CODE, STORE)
    with pytest.raises(FetchStuckError, match="please report this instruction"):
        for _ in range(10_001):
            assert scene.fetch.plan(trap) is None


def user(machine: Machine, tmp_path: Path, body: str, word: int = LOAD, thumb: bool = False, **named: Any) -> Scene:
    """A scene whose fetch handler has this body."""
    file = tmp_path / "handler.py"
    file.write_text(f"seen = []\ndef handle(trap):\n    seen.append(trap)\n    {body}\n")
    return Scene(machine, word, thumb, fetch="user", fetch_handler=HandlerSpec(str(file), "handle"), **named)


def test_a_user_is_told_of_the_trap_and_reads_what_is_there(machine: Machine, tmp_path: Path) -> None:
    scene = user(
        machine,
        tmp_path,
        f"""
    assert (trap.vcpu, trap.pc, trap.hdfar, trap.ipa) == (0, {machine.CODE}, {machine.DEVICE}, {machine.DEVICE})
    assert (trap.is_write, trap.thumb, trap.hsr >> 26, trap.cpsr & 0x1f) == (False, False, 0x24, 0x13)
    assert trap.registers()[1] == {machine.DEVICE} and trap.registers()[15] == trap.pc
    assert trap.read_physical({machine.DEVICE}, 4) is trap.read_virtual({machine.DEVICE}, 4) is None
    assert trap.read_virtual({machine.DATA - 2}, 4) == bytes(4)
    for name in ("pc", "other"):
        try:
            setattr(trap, name, 0)
        except (AttributeError, TypeError):
            continue
        raise AssertionError(name)
    assert trap.read_virtual(trap.pc, 4) == trap.read_physical(trap.pc, 4)
    return int.from_bytes(trap.read_virtual(trap.pc, 4), "little")""",
    )
    trap = scene.trap()
    assert text(scene.fetch.plan(trap)) == "ldr r0, [r1], #4"
    assert scene.links.told == [] and scene.counters() == {}


def test_a_users_none_enters_again_and_its_abort_is_one(machine: Machine, tmp_path: Path) -> None:
    scene = user(machine, tmp_path, "return None if len(seen) == 1 else 'abort'")
    trap = scene.trap()
    assert scene.fetch.plan(trap) is None and scene.untouched(trap) and scene.counters() == {"fetch_retry": 1}
    assert scene.fetch.plan(scene.trap()) is None
    assert scene.counters() == {"fetch_retry": 1, "abort_injected": 1}
    assert scene.vcpu.core()[15] == machine.VECTORS + 0x10


def test_a_users_word_has_to_agree_and_the_oracle_looks_at_it(machine: Machine, tmp_path: Path) -> None:
    scene = user(machine, tmp_path, f"return ({STORE}, {NOT_AN_ACCESS}, {OTHER_LOAD})[len(seen) - 1]")
    assert scene.fetch.plan(scene.trap()) is None
    assert scene.counters() == {"fetch_disagreed": 1}
    trap = scene.trap()
    assert scene.fetch.plan(trap) is None
    assert scene.counters() == {"fetch_disagreed": 1, "fetch_wrong": 1, "fetch_refused": 1, "abort_injected": 1}
    assert text(scene.fetch.plan(trap)) == "ldr r2, [r1], #8"
    assert scene.links.kinds == ["Violated", "Violated"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return -1", "answered -1 at"),
        ("return 1 << 32", "answered 4294967296 at"),
        ("return True", "answered True at"),
        ("return 'stop'", "answered 'stop' at"),
        ("return b'abcd'", "answered b'abcd' at"),
        ("raise RuntimeError('no\\nidea')", "raised RuntimeError: no idea at"),
        ("raise SystemExit", "raised SystemExit at"),
        ("return trap.nothing", "raised AttributeError: "),
    ],
)
def test_a_user_that_fails_is_one_sentence(machine: Machine, tmp_path: Path, body: str, words: str) -> None:
    scene = user(machine, tmp_path, body)
    with pytest.raises(FetchHandlerError, match="^the fetch handler ") as caught:
        scene.fetch.plan(scene.trap())
    assert words in str(caught.value) and f"{machine.CODE:#010x}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_user_that_never_agrees_is_not_told_to_report_it(machine: Machine, tmp_path: Path) -> None:
    scene = user(machine, tmp_path, f"return {STORE}")
    trap = scene.trap()
    with pytest.raises(FetchStuckError, match="the fetch handler answers something else"):
        for _ in range(10_001):
            scene.fetch.plan(trap)


def test_a_device_that_writes_code_in_a_stopped_world_is_noticed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop does not stop devices. The word that was executed is gone when it is read, so it is tried again."""
    scene = Scene(machine)
    memory = GuestMemory(machine.control_fd, machine.ram_fd, machine.stage2_fd)
    trap, read_now = scene.trap(), InstructionReader.read

    def overwritten(reader: InstructionReader, trap: Exit) -> int | None:
        memory.write(machine.CODE, OTHER_LOAD.to_bytes(4, "little"))
        return read_now(reader, trap)

    monkeypatch.setattr(InstructionReader, "read", overwritten)
    assert scene.fetch.plan(trap) is None
    assert scene.counters().get("fetch_wrong") is None and scene.counters()["fetch_retry"] == 1
    monkeypatch.undo()
    assert text(scene.fetch.plan(scene.trap())) == "ldr r2, [r1], #8"
