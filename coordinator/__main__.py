# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m coordinator --config-fd N`: the coordinator of one machine, started by the launcher."""

from __future__ import annotations

import argparse
import sys

import zmq

from allstop.coordinator.service import Coordinator
from allstop.vm.config.machine import MachineConfig
from allstop.vm.process.lifetime import SHORT_SLICE_NS, ask_for_slice, tie_to_parent
from allstop.vm.wire.channel import ChannelError


def main() -> int:
    """Serve until the launcher says Shutdown. The exit status: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="coordinator", description="The coordinator of one machine.")
    parser.add_argument("--config-fd", type=int, required=True, metavar="N", help="inherited memory file")
    config = MachineConfig.from_fd(parser.parse_args().config_fd)
    tie_to_parent(config.launcher_pid)
    ask_for_slice(SHORT_SLICE_NS)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        coordinator = Coordinator(config, context)
    except (ChannelError, OSError) as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 1
    coordinator.serve()
    coordinator.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
