# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instructions are calls to the host, and that they are over when the vCPU has left the guest."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from allstop.devicesrv.semihosting.semihosting import Semihosting as Host
from allstop.vcpu_worker.engine import EXIT_SEMIHOSTING, Vcpu
from allstop.vcpu_worker.exits.semihosting import Semihosting
from allstop.vcpu_worker.liveness import RunIsOver
from allstop.vm.arm import psr
from allstop.vm.arm.semihosting import Call
from allstop.vm.config.machine import SemihostingSpec
from allstop.vm.wire.messages import HostCall, HostReturn
from tests.vcpu_worker.contexts import context

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE140_0070
ARM = {"svc": 0xEF12_3456, "svccs": 0x2F12_3456, "hlt": 0xE10F_0070}
THUMB = {"svc": 0xDFAB, "bkpt": 0xBEAB, "hlt": 0xBABC}
NEIGHBOURS = {
    "svc": (0xEF12_3457, 0x08),
    "svc 16": (0xEF00_3456, 0x08),
    "bkpt": (0xE120_0A7B, 0x0C),
    "hlt": (0xE10F_0071, 0x04),
    "never": (0xFF12_3456, 0x04),
}


def prepared(machine: Machine, thumb: bool = False) -> Vcpu:
    """A vCPU that takes calls, and whose exceptions are HVCs with the vector's offset."""
    vcpu = machine.vcpu()
    vcpu.allow_semihosting(True)
    for vector in range(0x04, 0x20, 4):
        machine.put(machine.VECTORS + vector, HVC | vector)
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    vcpu.set_core(16, vcpu.core()[16] | psr.T * thumb | 1 << 29)
    return vcpu


@pytest.mark.parametrize("name", ARM)
def test_a_call_in_arm_state(machine: Machine, name: str) -> None:
    machine.put(machine.CODE, 0xE280_0001, ARM[name], 0xE280_0002, HVC)
    vcpu = prepared(machine)
    before = vcpu.core()
    leave = vcpu.run()
    assert (leave.kind, leave.pc) == (EXIT_SEMIHOSTING, machine.CODE + 8)
    assert vcpu.core() == (1, *before[1:15], machine.CODE + 8, before[16])
    assert machine.call(vcpu) == 0
    assert vcpu.core()[0] == 3
    assert machine.counter("semihosting") == 1


@pytest.mark.parametrize("name", THUMB)
def test_a_call_in_thumb_state_and_in_an_it_block(machine: Machine, name: str) -> None:
    machine.put_thumb(machine.CODE, THUMB[name], 0xBF26, THUMB[name], 0x3002, 0x3004, 0xF7E08000)
    vcpu = prepared(machine, thumb=True)  # carry is set; itte hs: call, addhs #2, addlo #4; hvc
    assert vcpu.run().pc == machine.CODE + 2
    leave = vcpu.run()
    assert (leave.kind, leave.pc) == (EXIT_SEMIHOSTING, machine.CODE + 6)
    assert machine.call(vcpu) == 0
    assert vcpu.core()[0] == 2


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_what_looks_like_one_is_the_guests(machine: Machine, name: str) -> None:
    word, vector = NEIGHBOURS[name]
    machine.put(machine.CODE, word)
    assert machine.call(prepared(machine)) == vector


@pytest.mark.parametrize(("word", "vector"), [(ARM["svc"], 0x08), (ARM["hlt"], 0x04)])
def test_a_user_program_does_not_call(machine: Machine, word: int, vector: int) -> None:
    machine.put(machine.CODE, word)
    vcpu = prepared(machine)
    vcpu.set_core(16, vcpu.core()[16] & ~0x1F | 0x10)
    assert machine.call(vcpu) == vector


@pytest.mark.parametrize(("word", "vector"), [(ARM["svc"], 0x08), (ARM["hlt"], 0x04)])
def test_nobody_calls_where_it_is_not_allowed(machine: Machine, word: int, vector: int) -> None:
    machine.put(machine.CODE, word)
    vcpu = prepared(machine)
    vcpu.allow_semihosting(False)
    assert machine.call(vcpu) == vector


class HostHere:
    """A worker's links whose device server is in this process, and that has no coordinator."""

    def __init__(self, folder: str) -> None:
        self.printed: list[bytes] = []
        self.ends: list[tuple[int, str]] = []
        self.host = Host(SemihostingSpec(folder), self.printed.append, lambda *end: self.ends.append(end))
        self._seq = itertools.count(1)

    def ask_host(self, *call: object) -> HostReturn:
        return self.host.perform(0, HostCall(next(self._seq), *call))  # type: ignore[arg-type]

    def wait(self, kind: object) -> None:
        """The run is over when it was ended."""


def test_calls_with_blocks_of_anything_are_answered(machine: Machine, tmp_path: object) -> None:
    """Would break: a length, a pointer, a handle or an operation that is not checked. MMU off: addresses are IPAs."""
    vcpu = prepared(machine)
    machine.put(machine.CODE, ARM["svc"], 0xEAFF_FFFD)  # b .-4
    links = HostHere(str(tmp_path))
    end = machine.RAM + machine.memory_bytes
    calls = Semihosting(context(machine, vcpu, links, links), SemihostingSpec(str(tmp_path), "a line"))
    dice = random.Random(20)
    words = [
        0,
        1,
        2,
        3,
        4,
        5,
        11,
        12,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0xFFFF_FFFC,
        machine.DATA,
        machine.DATA + 0xFFD,
        0x18_0000,
        end - 1,
        end - 4,
        end,
        machine.DEVICE,
        machine.RAM - 2,
        0x2_0026,
    ]
    guest = [machine.RAM + 4 * n for n in range(4)]  # what a call may overwrite without harm is above it
    refused = ended = 0
    for _ in range(3000):
        block = dice.choice((machine.DATA, machine.DATA + 0xFFA, end - 8, dice.choice(words)))
        if machine.RAM <= block < end - 16 and block > guest[-1] + 0x1_8000:
            machine.put(block & ~3, *(dice.choice((*words, dice.getrandbits(32))) for _ in range(4)))
        vcpu.set_core(0, dice.choice((*Call, dice.getrandbits(8), dice.getrandbits(32))))
        vcpu.set_core(1, block)
        machine.put(machine.CODE, ARM["svc"], 0xEAFF_FFFD)  # a read may have gone there
        vcpu.set_core(15, machine.CODE)
        leave = vcpu.run()
        assert leave.kind == EXIT_SEMIHOSTING
        before = machine.counter("semihosting_refused")
        try:
            calls.handle(leave)
        except RunIsOver:
            ended += 1
        if machine.counter("semihosting_refused") > before:
            refused += 1
            assert vcpu.core()[0] == 0xFFFF_FFFF
    assert refused > 500
    assert 0 < ended == len(links.ends)
    links.host.close()


def test_a_call_moves_what_a_message_can_carry(machine: Machine, tmp_path: object) -> None:
    """Would break: a name of a mebibyte that is in memory, or a buffer of several."""
    vcpu = prepared(machine)
    links = HostHere(str(tmp_path))
    calls = Semihosting(context(machine, vcpu, links, links), SemihostingSpec(str(tmp_path)))

    def ask(operation: Call, *block: int) -> int:
        machine.put(machine.CODE, ARM["svc"])
        machine.put(machine.DATA, *block)
        vcpu.set_core(0, operation)
        vcpu.set_core(1, machine.DATA)
        vcpu.set_core(15, machine.CODE)
        calls.handle(vcpu.run())
        answer: int = vcpu.core()[0]
        return answer

    assert ask(Call.OPEN, machine.RAM + 0x10_0000, 4, 0x18_0000) == 0xFFFF_FFFF
    assert ask(Call.ERRNO) == 22
    machine.ram[0x10_0000:0x10_0003] = b":tt"
    handle = ask(Call.OPEN, machine.RAM + 0x10_0000, 4, 3)
    assert ask(Call.WRITE, handle, machine.RAM + 0x10_0000, 0x20_0000) == 0x10_0000
    assert sum(map(len, links.printed)) == 0x10_0000
    assert ask(Call.WRITE, handle, machine.RAM + machine.memory_bytes - 5, 9) == 4
