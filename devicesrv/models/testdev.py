# SPDX-License-Identifier: GPL-2.0-or-later
"""The test device: how a guest ends the run, asks what it runs on, and marks moments. Words only."""

from __future__ import annotations

from allstop.devicesrv.device import Device

EXIT = 0x00  # write: the run ends with this status; 0 is a pass
VCPUS = 0x04  # read: number of vCPUs
RANDOM = 0x08  # read: 32 bits of the generator that the run's seed started
MAGIC = 0x0C  # read: MAGIC_VALUE
MARK = 0x10  # write: one line in marks.jsonl with this value, the vCPU and the time
PARAMETER = 0x14  # read: the number that the run was given for its guest

MAGIC_VALUE = 0x4153_5450  # "ASTP"


class TestDevice(Device):
    """Ends the run with a status; see the registers above."""

    __test__ = False  # pytest takes a class of this name for a test
    widths = frozenset({4})

    def read(self, offset: int, size: int, cpu: int) -> int:
        if offset == VCPUS:
            return self.wiring.vcpus
        if offset == RANDOM:
            return self.wiring.random.getrandbits(32)
        if offset == MAGIC:
            return MAGIC_VALUE
        if offset == PARAMETER:
            return self.wiring.parameter
        return self.mistake()

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        if offset == EXIT:
            self.wiring.finish(value, f"vCPU {cpu} wrote {value} to the test device")
        elif offset == MARK:
            self.wiring.record("marks", {"vcpu": cpu, "value": value})
        else:
            self.mistake()
