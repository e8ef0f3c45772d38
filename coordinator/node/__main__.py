# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m allstop.coordinator.node --config-fd N`: the node of one host, started by the host's launcher or agent."""

from __future__ import annotations

import argparse
import signal
import sys

import zmq

from allstop.coordinator.node.links import NodeError
from allstop.coordinator.node.node import Node
from allstop.vm.config.machine import MachineConfig
from allstop.vm.process.lifetime import SHORT_SLICE_NS, ask_for_slice, tie_to_parent
from allstop.vm.wire.channel import ChannelError


def main() -> int:
    """Serve until the run is over. The exit status: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="node", description="The node of one host of a machine.")
    parser.add_argument("--config-fd", type=int, required=True, metavar="N", help="inherited memory file")
    config = MachineConfig.from_fd(parser.parse_args().config_fd)
    tie_to_parent(config.launcher_pid)
    ask_for_slice(SHORT_SLICE_NS)
    if config.hosts is None:
        print("node: this machine is on one host, which needs no node", file=sys.stderr)
        return 1
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        node = Node(config, config.hosts, context)
        signal.signal(signal.SIGTERM, lambda number, frame: node.end())
        try:
            node.serve()
        finally:
            node.close()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except (ChannelError, NodeError, OSError, ValueError) as error:
        print(f"node: {error}", file=sys.stderr)
        return 1
    context.term()
    if node.was_ended:  # its parent shall see why it has left
        signal.raise_signal(signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
