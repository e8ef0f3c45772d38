# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 1 as accesses see it, by the engine's short cut, against the library's own walk; and TLB invalidation by page.

Source: ARM DDI 0406C, B3.5 (short-descriptor tables), B3.10 (TLB maintenance).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allstop.vcpu_worker.engine import EXIT_HVC, Vcpu
from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
ISB = 0xF57FF06F
TLBIALL, TLBIMVA, TLBIMVAIS = 0xEE080F17, 0xEE080F37, 0xEE080F33  # all by r0
LOAD, STORE, LOAD_USER, STORE_USER = 0xE5981000, 0xE5881000, 0xE4B81000, 0xE4A81000  # r1, [r8]; LDRT, STRT
WINDOW = 0x0010_0000  # the megabyte of virtual addresses that is played with
L1, L2 = 0x4_0000, 0x4_4000  # offsets of tables in RAM; L1 is aligned to 16 KiB
SCTLR_M, SCTLR_AFE = 1, 1 << 29


def sctlr(vcpu: Vcpu, *value: int) -> int:
    return vcpu.cp15(1, 0, 0, 0, False, *value)


def with_mmu(machine: Machine) -> Vcpu:
    """A vCPU whose RAM is mapped flat by sections that every mode may use, and whose vectors are HVCs."""
    vcpu = machine.vcpu()
    machine.put(machine.VECTORS, *(0xE1400071,) * 8)
    for megabyte in range(4):
        machine.put(machine.RAM + L1 + 4 * (0x400 + megabyte), (0x4000_0000 + megabyte * 0x10_0000) | 0xC02)
    for register, value in (
        ((2, 0, 0, 0), machine.RAM + L1),
        ((2, 0, 0, 2), 0),
        ((12, 0, 0, 0), machine.VECTORS),
        ((3, 0, 0, 0), 1),
    ):
        vcpu.cp15(*register, False, value)
    sctlr(vcpu, sctlr(vcpu) | SCTLR_M)
    return vcpu


def attempt(machine: Machine, vcpu: Vcpu, word: int, address: int) -> int | None:
    """Execute one load or store of r1 at `address`: r1 after it, None where it aborted."""
    machine.put(machine.CODE + 0x100, word, HVC)
    vcpu.write_ram(machine.CODE + 0x100, machine.ram[0x1_0100:0x1_0108])
    vcpu.set_core(16, 0x1D3)
    vcpu.set_core(15, machine.CODE + 0x100)
    vcpu.set_core(8, address)
    vcpu.set_core(1, 0x600D)
    leave = vcpu.run()
    assert leave.kind == EXIT_HVC, leave
    return vcpu.core()[1] if leave.hsr & 0xFFFF == 0 else None


def flush(machine: Machine, vcpu: Vcpu, word: int = TLBIALL, r0: int = 0) -> None:
    machine.put(machine.CODE + 0x200, word, ISB, HVC)
    vcpu.write_ram(machine.CODE + 0x200, machine.ram[0x1_0200:0x1_020C])
    vcpu.set_core(0, r0)
    vcpu.set_core(15, machine.CODE + 0x200)
    assert vcpu.run().hsr & 0xFFFF == 0


frames = st.integers(0x100, 0x3FF).map(lambda page: 0x4000_0000 + page * 4096)
flags = st.integers(0, 0xFFF)
small_pages = st.builds(lambda frame, bits: frame | bits & 0xFFD | 2, frames, flags)
large_pages = st.builds(lambda frame, bits: frame & ~0xFFFF | bits & 0xFFC | bits << 4 & 0xF000 | 1, frames, flags)
level2 = st.one_of(small_pages, large_pages, st.just(0))
sections = st.builds(
    lambda frame, bits, high: frame & ~0xFFFFF | bits & 0xFFD | high << 12 | 2, frames, flags, st.integers(0, 0x3F)
).filter(lambda entry: not entry & 1 << 18)
tables = st.builds(lambda bits: (0x4000_0000 + L2) | bits & 0x3FD | 1, flags)
level1 = st.one_of(sections, tables, st.just(0))


@pytest.mark.parametrize("simple", [False, True], ids=["AP", "AFE"])
def test_accesses_see_what_the_library_walks_to(machine: Machine, simple: bool) -> None:
    vcpu = with_mmu(machine)
    if simple:
        sctlr(vcpu, sctlr(vcpu) | SCTLR_AFE)
    seen = {True: 0, False: 0}

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(level1, level2, st.integers(0, 3), st.integers(0, 15), st.integers(0, 0x3FF))
    def check(first: int, second: int, domain_1: int, page: int, word: int) -> None:
        first = first & ~0x1E0 | 0x20  # domain 1
        machine.put(machine.RAM + L1 + 4 * (WINDOW >> 20), first)
        for place in range(16):
            machine.put(machine.RAM + L2 + 4 * place, second)  # a large page fills 16 places
        vcpu.cp15(3, 0, 0, 0, False, 1 | domain_1 << 2)
        flush(machine, vcpu)
        address = WINDOW + page * 4096 + word * 4
        for instruction, write, privileged in (
            (LOAD, False, True),
            (LOAD_USER, False, False),
            (STORE, True, True),
            (STORE_USER, True, False),
        ):
            expected = vcpu.translate(address, write, privileged)
            if expected is not None and not 0x4010_0000 <= expected < 0x4040_0000:
                continue
            if expected is not None:
                machine.put(expected, 0xBEEF)
            outcome = attempt(machine, vcpu, instruction, address)
            seen[outcome is not None] += 1
            assert (outcome is None) == (expected is None), (hex(first), hex(second), hex(address), instruction)
            if expected is not None:
                assert (machine.word(expected) if write else outcome) == (0x600D if write else 0xBEEF)

    check()
    assert seen[True] > 50 and seen[False] > 50


@pytest.mark.parametrize(
    ("entry", "bytes_"), [("small", 0x1000), ("large", 0x1_0000), ("section", 0x10_0000), ("supersection", 0x100_0000)]
)
@pytest.mark.parametrize("maintenance", [TLBIMVA, TLBIMVAIS], ids=["own", "inner shareable"])
def test_an_invalidation_by_address_takes_all_of_its_page(
    machine: Machine, entry: str, bytes_: int, maintenance: int
) -> None:
    vcpu = with_mmu(machine)

    def map_to(frame: int) -> None:
        if entry == "supersection":
            base = 0x0100_0000
            for place in range(16):
                machine.put(machine.RAM + L1 + 4 * ((base >> 20) + place), 0x4000_0000 | 0x40C02)
        elif entry == "section":
            machine.put(machine.RAM + L1 + 4 * (WINDOW >> 20), frame | 0xC02)
        else:
            machine.put(machine.RAM + L1 + 4 * (WINDOW >> 20), machine.RAM + L2 | 1)
            for place in range(16):
                machine.put(
                    machine.RAM + L2 + 4 * place, frame | 0x32 | place << 12 if entry == "small" else frame | 0x31
                )

    window = 0x0100_0000 if entry == "supersection" else WINDOW
    machine.put(0x4010_0000, 1)
    machine.put(0x4020_0000, 2)
    map_to(0x4010_0000)
    flush(machine, vcpu)
    offset = 0x10_0000 if entry == "supersection" else 0
    assert attempt(machine, vcpu, LOAD, window + offset) == 1
    if entry == "supersection":
        for place in range(16):
            machine.put(machine.RAM + L1 + 4 * ((window >> 20) + place), 0x4020_0000 + place * 0x10_0000 | 0xC02)
    else:
        map_to(0x4020_0000)
    assert attempt(machine, vcpu, LOAD, window + offset) == 1, "the TLB has it still"
    flush(machine, vcpu, maintenance, window + bytes_ - 0x1000)
    expected = machine.word(0x4020_0000 + offset)
    assert attempt(machine, vcpu, LOAD, window + offset) == expected


def test_an_invalidation_of_one_page_leaves_the_others(machine: Machine) -> None:
    vcpu = with_mmu(machine)
    machine.put(machine.RAM + L1 + 4 * (WINDOW >> 20), machine.RAM + L2 | 1)
    for place in range(2):
        machine.put(machine.RAM + L2 + 4 * place, 0x4010_0032 + place * 0x1000)
        machine.put(0x4010_0000 + place * 0x1000, 10 + place)
        machine.put(0x4020_0000 + place * 0x1000, 20 + place)
    assert [attempt(machine, vcpu, LOAD, WINDOW + place * 0x1000) for place in range(2)] == [10, 11]
    for place in range(2):
        machine.put(machine.RAM + L2 + 4 * place, 0x4020_0032 + place * 0x1000)
    flush(machine, vcpu, TLBIMVAIS, WINDOW)
    assert [attempt(machine, vcpu, LOAD, WINDOW + place * 0x1000) for place in range(2)] == [20, 11]


def test_another_vcpu_forgets_the_page_and_many_pages(machines: Callable[..., Machine]) -> None:
    """More pages than are logged, before the other one looks: it forgets all."""
    for pages in (1, 20, 200):
        machine = machines(vcpus=2)
        sleeper = with_mmu(machine)
        machine.put(machine.RAM + L1 + 4 * (WINDOW >> 20), machine.RAM + L2 | 1)
        machine.put(machine.RAM + L2 + 4 * 5, 0x4010_0032)
        machine.put(0x4010_0000, 1)
        machine.put(0x4020_0000, 2)
        assert attempt(machine, sleeper, LOAD, WINDOW + 0x5000) == 1
        machine.put(machine.RAM + L2 + 4 * 5, 0x4020_0032)

        def invalidate(vcpu: Vcpu, pages: int = pages, machine: Machine = machine) -> None:
            for page in (5, *range(100, 99 + pages)):
                flush(machine, vcpu, TLBIMVAIS, WINDOW + page % 256 * 0x1000)

        machine.child(1, invalidate).result()
        assert machine.page.requests(0) & machine.page.TLB_PAGES
        assert attempt(machine, sleeper, LOAD, WINDOW + 0x5000) == 2
        sleeper.close()


def test_what_is_not_inner_shareable_stays_with_its_vcpu(machines: Callable[..., Machine]) -> None:
    machine = machines(vcpus=2)
    vcpu = machine.vcpu()
    flush(machine, vcpu, TLBIALL)
    flush(machine, vcpu, TLBIMVA)
    assert not machine.page.requests(1) & (machine.page.TLB_PAGES | machine.page.TLB_FLUSH)
    flush(machine, vcpu, TLBIMVAIS)
    assert machine.page.requests(1) & machine.page.TLB_PAGES
