# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may say Hello under which host's key."""

from __future__ import annotations

import pytest

from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.admission import is_at_home
from allstop.vm.wire.messages import (
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_LAUNCHER,
    ROLE_NODE,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Hello,
)

HOSTS = HostsSpec(0, ("x", "y", "z"), (0, 1, 1, 2), ("key 0", "key 1", "key 2"), "", -1, ())


@pytest.mark.parametrize(
    ("key", "role", "vcpu", "fits"),
    [
        ("", ROLE_WORKER, 0, True),
        ("", ROLE_WORKER, 1, False),
        ("", ROLE_NODE, 1, False),
        ("", ROLE_LAUNCHER, 0, True),
        ("", ROLE_OPERATOR, 0, True),
        ("", ROLE_DEBUGGER, 0, True),
        ("", ROLE_COORDINATOR, 0, True),
        ("key 1", ROLE_WORKER, 2, True),
        ("key 1", ROLE_WORKER, 0, False),
        ("key 1", ROLE_WORKER, 3, False),
        ("key 1", ROLE_WORKER, 99, False),
        ("key 1", ROLE_NODE, 1, True),
        ("key 1", ROLE_NODE, 2, False),
        ("key 1", ROLE_OPERATOR, 0, False),
        ("key 1", ROLE_LAUNCHER, 0, False),
        ("key 1", ROLE_DEBUGGER, 0, False),
        ("key 1", ROLE_COORDINATOR, 0, False),
        ("another", ROLE_WORKER, 1, False),
    ],
)
def test_a_host_speaks_for_its_own_processes(key: str, role: int, vcpu: int, fits: bool) -> None:
    assert is_at_home(HOSTS, key, Hello(1, b"", role, vcpu, 1)) is fits


def test_on_one_host_all_are_at_home() -> None:
    assert is_at_home(None, "", Hello(1, b"", ROLE_WORKER, 3, 1))
