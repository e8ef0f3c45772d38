# SPDX-License-Identifier: GPL-2.0-or-later
"""`guests/peers` on both machines: one image, the same parameter, and what it says."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from allstop.deploy.processes.processes import child_environment
from bench import qemu
from bench.running import PeerError, Running

IMAGE = Path(__file__).resolve().parents[1] / "guests" / "images" / "peers.elf"

# The guest's operations, by number.
OPERATIONS = {
    name: number
    for number, name in enumerate(
        (
            "calls",
            "memory",
            "branches",
            "mixed",
            "add_own",
            "add_shared",
            "dmb_own",
            "dmb_shared",
            "tlbi",
            "sgi",
            "sgi_idle",
            "sgi_all",
            "mmio",
            "mmio_all",
            "busy",
            "first",
        ),
        1,
    )
}
MAX_COUNT = (1 << 24) - 1
# Where the guest finds them on a board without a test device.
_PARAMETER_IPA, _VCPUS_IPA = 0x43FF_F000, 0x43FF_F004
_PREFIX = "result: guest=peers "
DEADLINE_S = 300.0
ALLSTOP_RUN = (sys.executable, "-P", "-m", "allstop", "run")


@dataclass(frozen=True)
class Figure:
    """What a guest measured: microseconds, of the whole or the median; `check` is what the work came to, if any."""

    us: float
    check: str


# A machine of one vCPU cannot share memory with another, and QEMU then leaves atomics and fences out. Ours could: the
# goal compares with machines that can.
LEAST_SMP = 2


def our_command(vcpus: int, operation: str, count: int = 1, more: tuple[str, ...] = ()) -> list[str]:
    """The command line of allstop."""
    return [
        *ALLSTOP_RUN,
        "--quiet",
        f"--vcpus={vcpus}",
        f"--parameter={_parameter(operation, count)}",
        *more,
        "--",
        str(IMAGE),
    ]


def qemu_command(vcpus: int, operation: str, count: int = 1, more: tuple[str, ...] = ()) -> list[str]:
    """The command line of QEMU, which writes into RAM what our test device would tell."""
    words = ((_PARAMETER_IPA, _parameter(operation, count)), (_VCPUS_IPA, vcpus))
    loads = [part for ipa, word in words for part in ("-device", f"loader,addr={ipa:#x},data={word:#x},data-len=4")]
    return qemu.command(IMAGE, max(vcpus, LEAST_SMP), [*loads, *more])


def ours(vcpus: int, operation: str, count: int) -> Figure:
    """Have our machine do it. Raises PeerError."""
    return _measure(our_command(vcpus, operation, count), operation)


def theirs(vcpus: int, operation: str, count: int) -> Figure:
    """Have QEMU do it. Raises PeerError."""
    return _measure(qemu_command(vcpus, operation, count), operation)


def start(command: list[str]) -> Running:
    """A machine, to be used in a with statement."""
    return Running(command, child_environment())


def _parameter(operation: str, count: int) -> int:
    return count << 8 | OPERATIONS[operation]


def _measure(command: list[str], operation: str) -> Figure:
    with start(command) as running:
        output = running.to_end(DEADLINE_S)
    return parse(output, operation)


def parse(output: str, operation: str) -> Figure:
    """The result line of `operation`. Raises PeerError when there is none."""
    for line in output.splitlines():
        if line.startswith(_PREFIX):
            fields = dict(field.split("=") for field in line.split()[1:])
            if fields["operation"] != operation:
                continue
            if "ticks" in fields:
                return Figure(int(fields["ticks"]) / int(fields["hertz"]) * 1e6, fields["check"])
            return Figure(int(fields["p50_ns"]) / 1000, "")
    raise PeerError(f"the guest did not say what {operation} took: {output[-400:]!r}")
