# SPDX-License-Identifier: GPL-2.0-or-later
"""Allstop: one SMP guest as many processes, each vCPU one of them.

from allstop import Machine
with Machine(image="hello", vcpus=4, timeout=10) as machine:
    verdict = machine.wait()
"""

from allstop.deploy.outcome.verdict import Verdict
from allstop.machine import Machine
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.version import __version__

__all__ = ["HarnessError", "Machine", "UsageError", "Verdict", "__version__"]
