# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m gdbserver --config-fd N`: the gdb server of one machine, started by the launcher."""

from __future__ import annotations

import argparse
import sys

import zmq

from allstop.gdbserver.server import Server
from allstop.vm.config.machine import MachineConfig
from allstop.vm.process.lifetime import SHORT_SLICE_NS, ask_for_slice, tie_to_parent
from allstop.vm.wire.channel import ChannelError


def main() -> int:
    """Serve until the machine ends. The exit status: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="gdbserver", description="The gdb server of one machine.")
    parser.add_argument("--config-fd", type=int, required=True, metavar="N", help="inherited memory file")
    config = MachineConfig.from_fd(parser.parse_args().config_fd)
    tie_to_parent(config.launcher_pid)
    ask_for_slice(SHORT_SLICE_NS)
    if config.gdb is None:
        print("gdbserver: this machine has no debugger", file=sys.stderr)
        return 1
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        server = Server(config, config.gdb, context)
    except (ChannelError, OSError) as error:
        print(f"gdbserver: {error}", file=sys.stderr)
        return 1
    try:
        server.serve()
    except OSError as error:
        print(f"gdbserver: gdb cannot be served: {error.strerror}", file=sys.stderr)
        return 1
    server.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
