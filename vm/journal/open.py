# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal that a process of a machine writes, where the machine keeps journals. Nothing is loaded where not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allstop.vm.config.machine import MachineConfig
    from allstop.vm.journal.recorder import Recorder


def open_journal(config: MachineConfig, process: str, role: int, vcpu: int = 0) -> Recorder | None:
    """The journal of `process`, in the run folder, or on another host than that is on in a file that its agent has
    made; None where the machine keeps none. Raises OSError."""
    if not config.journal:
        return None
    from allstop.vm.journal.format import FOLDER, SUFFIX
    from allstop.vm.journal.recorder import Recorder

    made = None if config.hosts is None else config.hosts.journal_fds.get(process)
    return Recorder(
        os.path.join(config.run_dir, FOLDER, process + SUFFIX) if made is None else made, process, role, vcpu
    )
