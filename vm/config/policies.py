# SPDX-License-Identifier: GPL-2.0-or-later
"""The choices of a machine that decide whether its fetches are right: fetch policies, TLB disciplines, decoders.

One row each. A fetch policy is its row and its class in `vcpu_worker/fetch/policies.py`; a decoder is its row and its
function in `vm/arm/decoder.py`. The first row of each table is the default.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchRow:
    """A fetch policy. Under the disciplines `sound_under` no guest can make it decode a wrong instruction; under those
    in `wrong_under` the guest `swapper` shows that it does. `fetches` is false for a policy that never reads an
    instruction, `needs_handler` true for one that calls a user's function."""

    name: str
    help: str
    sound_under: tuple[str, ...] = ()
    wrong_under: tuple[str, ...] = ()
    fetches: bool = True
    needs_handler: bool = False


@dataclass(frozen=True)
class TlbRow:
    """A TLB discipline. `architectural` says whether the architecture allows it: the others break guests. The order is
    that of the C enum CP_TLB_*."""

    name: str
    help: str
    architectural: bool = True


@dataclass(frozen=True)
class DecoderRow:
    """A decoder of instructions without syndrome."""

    name: str
    help: str


FETCH_ROWS = (
    FetchRow("stop-world", "read while every other vCPU is held outside the guest", sound_under=("broadcast", "ipi")),
    FetchRow(
        "unprotected",
        "read without protection: the bug of 2013",
        sound_under=("ipi",),
        wrong_under=("broadcast",),
    ),
    FetchRow(
        "validate",
        "read, and enter the guest again if an invalidation began since the trap",
        sound_under=("broadcast", "ipi"),
    ),
    FetchRow("abort", "read nothing: the guest takes an external data abort", fetches=False),
    FetchRow("user", "call the function of --fetch-handler", needs_handler=True),
)
TLB_ROWS = (
    TlbRow("broadcast", "an invalidation waits for vCPUs in the guest, as Arm's broadcast does"),
    TlbRow("ipi", "it also waits for vCPUs whose hypervisor handles an exit, as on x86"),
    TlbRow("local", "it flushes its own vCPU only, as ARMv6 without the kernel's IPIs", architectural=False),
    TlbRow("early", "it posts flushes and does not wait, as Cortex-A15's erratum 798181", architectural=False),
)
DECODER_ROWS = (
    DecoderRow("full", "every load and store that traps without syndrome"),
    DecoderRow("kvm", "what the KVM/ARM patch of 2013 took"),
)

FETCH_POLICIES = tuple(row.name for row in FETCH_ROWS)
TLB_DISCIPLINES = tuple(row.name for row in TLB_ROWS)
BROKEN_DISCIPLINES = tuple(row.name for row in TLB_ROWS if not row.architectural)
DECODERS = tuple(row.name for row in DECODER_ROWS)


def fetch_row(name: str) -> FetchRow:
    """The row of a fetch policy. Raises KeyError."""
    return _BY_NAME[name]


_BY_NAME = {row.name: row for row in FETCH_ROWS}
