# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a debugger may connect, as a user writes it."""

from __future__ import annotations

from dataclasses import dataclass

from allstop.vm.errors import UsageError

DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True)
class GdbAddress:
    """A TCP address to listen on; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def gdb_address(text: str) -> GdbAddress:
    """`:PORT`, `HOST:PORT`, `[HOST]:PORT`, or `PORT`. Raises UsageError."""
    if not isinstance(text, str):
        raise UsageError(f"gdb's address is given as HOST:PORT or :PORT, not {text!r}")
    host, _, port = text.rpartition(":")
    host = host.removeprefix("tcp:")  # as QEMU writes it
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF):
        raise UsageError(f"gdb's address is given as HOST:PORT or :PORT, with a port of 0 to 65535, not {text[:64]!r}")
    return GdbAddress(host.removeprefix("[").removesuffix("]") or DEFAULT_HOST, int(port))
