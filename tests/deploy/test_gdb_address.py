# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user may write after --gdb."""

from __future__ import annotations

from pathlib import Path

import pytest

from allstop.deploy.options.gdb_address import GdbAddress, gdb_address
from allstop.deploy.options.options import RunOptions
from allstop.vm.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":1234", "127.0.0.1", 1234),
        ("1234", "127.0.0.1", 1234),
        ("tcp::1234", "127.0.0.1", 1234),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = gdb_address(text)
    assert address == GdbAddress(host, port)
    assert gdb_address(str(address)) == address


@pytest.mark.parametrize("text", ["", ":", ":x", ":65536", ":-1", "host", ":1 2", ":٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        gdb_address(text)


def test_to_wait_needs_a_way_in() -> None:
    with pytest.raises(UsageError, match="--gdb-wait requires --gdb"):
        RunOptions(Path("guest.elf"), gdb_wait=True)
