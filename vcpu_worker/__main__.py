# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m vcpu_worker --config-fd N --vcpu K`: the process of one vCPU. `zygote` forks the same."""

from __future__ import annotations

import argparse
import os
import sys

from allstop.vm.config.machine import MachineConfig
from allstop.vm.process.lifetime import SHORT_SLICE_NS, USUAL_SLICE_NS, ask_for_slice, pin_to_core, tie_to_parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="vcpu_worker", description=__doc__)
    parser.add_argument("--config-fd", type=int, required=True)
    parser.add_argument("--vcpu", type=int, required=True)
    arguments = parser.parse_args()
    config = MachineConfig.from_fd(arguments.config_fd)
    tie_to_parent(config.launcher_pid)
    return live(config, arguments.vcpu)


def live(config: MachineConfig, vcpu: int) -> int:
    """Run the worker of `vcpu` until the machine shuts down; the exit status."""
    ask_for_slice(SHORT_SLICE_NS)
    if config.pin:
        pin_to_core(vcpu)
    try:
        # The engine checks its library when it is imported, and raises EngineError, a RuntimeError, when it refuses.
        from allstop.vcpu_worker.worker import Worker

        worker = Worker.open(config, vcpu)
        ask_for_slice(USUAL_SLICE_NS)  # for the guest; the threads that carry messages are there by now
        return worker.run()
    except (RuntimeError, OSError, ValueError) as error:
        os.write(2, f"{error}\n".encode())
        return 4


if __name__ == "__main__":
    sys.exit(main())
