# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb server's socket. The launcher opens it, so that a port in use is found before any process starts."""

from __future__ import annotations

import contextlib
import os
import socket

from allstop.deploy.options.gdb_address import GdbAddress
from allstop.vm.config.machine import GdbSpec
from allstop.vm.errors import UsageError

_STDERR = 2


def open_gdb(address: GdbAddress, waits: bool, stack: contextlib.ExitStack) -> GdbSpec:
    """Bind the address; the gdb server listens when the machine is up. `stack` closes the socket. A port that the
    kernel chose is printed on stderr. Raises UsageError when the address cannot be bound."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        raise UsageError(f"gdb cannot be served on {address}: {error.strerror or error}") from None
    except UnicodeError:
        raise UsageError(f"gdb cannot be served on {address}: that is not a host name") from None
    notice_fd = os.dup(_STDERR)
    stack.callback(os.close, notice_fd)
    if address.port == 0:
        chosen = GdbAddress(address.host, listener.getsockname()[1])
        with contextlib.suppress(OSError):
            os.write(_STDERR, f"allstop: gdb: target remote {chosen}\n".encode())
    return GdbSpec(listener.fileno(), notice_fd, waits)
