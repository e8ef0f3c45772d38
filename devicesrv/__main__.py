# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m devicesrv --config-fd N`: the device server's process.

Exit status: 0 after Shutdown, 2 if the board cannot be built (one sentence on standard error says why).
"""

from __future__ import annotations

import argparse
import os
import sys

import zmq

from allstop.devicesrv.bus import BusError
from allstop.devicesrv.plugin import PluginError
from allstop.devicesrv.server.server import DeviceServer
from allstop.vm.boot.drive import DriveError
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.process.lifetime import SHORT_SLICE_NS, ask_for_slice, tie_to_parent
from allstop.vm.wire.channel import ChannelError


def main() -> int:
    """Serve one machine until it ends; the exit status."""
    parser = argparse.ArgumentParser(prog="devicesrv", description="the device server of one allstop machine")
    parser.add_argument("--config-fd", type=int, required=True, help="inherited descriptor of the configuration")
    config = MachineConfig.from_fd(parser.parse_args().config_fd)
    tie_to_parent(config.launcher_pid)
    ask_for_slice(SHORT_SLICE_NS)
    control_page = ControlPage(config.fds.control)
    control_page.set_pid(control_page.DEVICES, os.getpid())  # the first beat comes with the first poll
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        server = DeviceServer(config, control_page, context)
    except (BusError, PluginError, DriveError, ChannelError, OSError) as error:
        print(f"devicesrv: {error}", file=sys.stderr)
        return 1 if isinstance(error, (ChannelError, OSError)) else 2
    server.serve()
    server.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
