# SPDX-License-Identifier: GPL-2.0-or-later
"""What the registers of CP14 and CP15 say, on this machine and on QEMU's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from allstop import Machine

pytestmark = pytest.mark.processes

SOURCES = Path(__file__).parents[2] / "guests"
RECORDED = SOURCES / "registers" / "qemu-7.2.txt"
TIMEOUT_S = 60.0
RUNNING = ("read p15 0 c14 c2 ", "read p15 0 c14 c3 ", "read2 p15 0 c14 ", "read2 p15 1 c14 ", "result:")

# Where the machines differ on purpose.
ONLY_QEMU = {
    # It has DBGDEVID, DBGDEVID1 and DBGDEVID2 at c7 c0; ARM DDI 0406C, C11.11, has them at opc2 7.
    "read p14 0 c7 c0 0 00000000",
    "read p14 0 c7 c0 1 00000000",
    "read p14 0 c7 c0 2 01110f13",
    "read p15 0 c0 c0 6 414fc0f0",  # REVIDR: it repeats MIDR; Cortex-A15's is 0
    # The event counters of ARMv8, which PMSELR selects on ARMv7: two more of them.
    "read p15 0 c14 c8 4 00000000",
    "read p15 0 c14 c8 5 00000000",
    "read p15 0 c14 c12 4 00000000",
    "read p15 0 c14 c12 5 00000000",
    "write p15 0 c14 c8 4",
    "write p15 0 c14 c8 5",
    "write p15 0 c14 c12 4",
    "write p15 0 c14 c12 5",
    "write p15 0 c14 c0 0",  # CNTFRQ is EL2's to write; its virt board has no EL2
}
ONLY_HERE = {
    "read p14 0 c7 c0 7 00000000",
    "read p14 0 c7 c1 7 00000000",
    "read p14 0 c7 c2 7 01110f13",
    "read p15 0 c0 c0 6 00000000",
}


def lines(text: str) -> set[str]:
    """What a guest says of its registers, without what runs."""
    return {line for line in text.replace("\r", "").splitlines() if line and not line.startswith(RUNNING)}


def test_a_guest_finds_the_registers_of_qemus_cortex_a15(guests: Path) -> None:
    """Would break: a register that is missing, or says something else, where a kernel for this board asks."""
    with Machine(guests / "registers.elf", timeout=TIMEOUT_S) as machine:
        verdict = machine.wait()
    assert verdict.verdict == "pass", verdict.sentence
    here, there = lines(machine.console), lines(RECORDED.read_text())
    assert there - here == ONLY_QEMU
    assert here - there == ONLY_HERE
    assert verdict.counters["undefined_access"] > 10_000
    assert "the guest read p14 0 c0 c0 1 1 time: UNDEFINED" in verdict.notes
    assert any("more accesses to registers of CP14 and CP15" in note for note in verdict.notes)


def test_what_was_recorded_of_qemu_is_what_qemu_says(tmp_path: Path) -> None:
    """Would break: a guest that was changed without recording it anew, as guests/README.md says."""
    for tool in ("make", "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    version = subprocess.run(("qemu-system-arm", "--version"), capture_output=True, text=True, check=True).stdout
    if "version 7.2." not in version:
        pytest.skip("recorded of QEMU 7.2, and this is " + version.splitlines()[0])
    image = tmp_path / "images" / "registers.elf"
    subprocess.run(
        (
            "make",
            "-s",
            "-C",
            SOURCES,
            "QEMU=1",
            "VCPUS=1",
            f"O={tmp_path / 'objects'}",
            f"IMAGES={image.parent}",
            image,
        ),
        check=True,
        capture_output=True,
    )
    ran = subprocess.run(
        (
            "qemu-system-arm",
            "-M",
            "virt,gic-version=2",
            "-cpu",
            "cortex-a15",
            "-nographic",
            "-semihosting",
            "-kernel",
            image,
        ),
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
    )
    assert lines(ran.stdout) == lines(RECORDED.read_text())
