# SPDX-License-Identifier: GPL-2.0-or-later
"""PSCI 0.2 and 1.0 (ARM DEN 0022): function identifiers in r0, and the values that come back in r0."""

from __future__ import annotations

from enum import IntEnum

VERSION_0_2 = 0x00000002
VERSION_1_0 = 0x00010000
"""What VERSION answers: major in [31:16], minor in [15:0]."""


class PsciFunction(IntEnum):
    """Function identifiers of the SMC32 calling convention."""

    VERSION = 0x84000000
    CPU_SUSPEND = 0x84000001
    CPU_OFF = 0x84000002
    CPU_ON = 0x84000003
    AFFINITY_INFO = 0x84000004
    MIGRATE = 0x84000005
    MIGRATE_INFO_TYPE = 0x84000006
    MIGRATE_INFO_UP_CPU = 0x84000007
    SYSTEM_OFF = 0x84000008
    SYSTEM_RESET = 0x84000009
    FEATURES = 0x8400000A
    CPU_FREEZE = 0x8400000B
    CPU_DEFAULT_SUSPEND = 0x8400000C
    NODE_HW_STATE = 0x8400000D
    SYSTEM_SUSPEND = 0x8400000E
    SET_SUSPEND_MODE = 0x8400000F
    STAT_RESIDENCY = 0x84000010
    STAT_COUNT = 0x84000011


class PsciReturn(IntEnum):
    """Return codes, as signed numbers; `register_value` gives what the guest finds in r0."""

    SUCCESS = 0
    NOT_SUPPORTED = -1
    INVALID_PARAMETERS = -2
    DENIED = -3
    ALREADY_ON = -4
    ON_PENDING = -5
    INTERNAL_FAILURE = -6
    NOT_PRESENT = -7
    DISABLED = -8
    INVALID_ADDRESS = -9

    @property
    def register_value(self) -> int:
        """The code as an unsigned 32-bit register."""
        return self & 0xFFFFFFFF


class AffinityState(IntEnum):
    """What AFFINITY_INFO answers about a CPU."""

    ON = 0
    OFF = 1
    ON_PENDING = 2


class MigrateInfo(IntEnum):
    """What MIGRATE_INFO_TYPE answers about the trusted operating system."""

    UP_MIGRATE_CAPABLE = 0
    UP_NOT_MIGRATE_CAPABLE = 1
    NOT_REQUIRED = 2
