# SPDX-License-Identifier: GPL-2.0-or-later
"""Allstop: one SMP guest as many processes, each vCPU one of them.

    from allstop import Machine
    with Machine(image="guest.elf", vcpus=4, timeout=10) as machine:
        verdict = machine.wait()

`Machine` and what belongs to it are loaded when they are first used: every process of a machine imports this package,
and none of them needs the launcher.
"""
from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; `typing` is slow to load, and the command is here before it
if TYPE_CHECKING:
    from typing import Any

    from deploy.errors import HarnessError, UsageError
    from deploy.machine import Machine
    from deploy.verdict import Verdict

__version__ = "0.1.0"
__all__ = ["HarnessError", "Machine", "UsageError", "Verdict"]

_HOMES = {"Machine": "deploy.machine", "Verdict": "deploy.verdict", "HarnessError": "deploy.errors",
          "UsageError": "deploy.errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
