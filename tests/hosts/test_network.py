# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests' own network: hosts reach each other, a cut cable lets nothing through, and nothing of it stays."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def reaches(network: Any, host: int) -> bool:
    """Whether the first host reaches this one. A connection that is refused has got there."""
    code = (
        "import socket, sys\n"
        f"try: socket.create_connection(('{network.addresses[host]}', 9), 0.3)\n"
        "except ConnectionRefusedError: sys.exit(0)\nexcept OSError: sys.exit(1)"
    )
    return subprocess.run([*network.enter(0), "python3", "-c", code], check=False).returncode == 0


def test_a_cable(network: Any) -> None:
    assert reaches(network, 1)
    network.cut(1)
    assert not reaches(network, 1) and reaches(network, 2)
    network.mend(1)
    assert reaches(network, 1)


def test_what_a_killed_test_left_is_removed(network: Any) -> None:
    name = network.leave()
    assert Path(f"/run/netns/{name}").exists()
    network.clean()
    assert not Path(f"/run/netns/{name}").exists()
    assert all(Path(f"/run/netns/{own}").exists() for own in network.namespaces)
