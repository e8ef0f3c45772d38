# SPDX-License-Identifier: GPL-2.0-or-later
"""The roles, and routes between them: `LAUNCHER >> COORDINATOR | COORDINATOR >> (WORKER | DEVICES)`."""

from __future__ import annotations

# The `role` of a Hello and of a lost process.
ROLE_WORKER = 0
ROLE_DEVICES = 1
ROLE_LAUNCHER = 2
ROLE_COORDINATOR = 3
ROLE_OPERATOR = 4
ROLE_DEBUGGER = 5
ROLE_NODE = 6
ROLE_HOST = 7
ROLE_NAMES = ("worker", "device server", "launcher", "coordinator", "operator", "gdb server", "node", "host agent")


class Route(tuple[tuple[int, int], ...]):
    """Pairs of a sender's role and a receiver's."""

    __slots__ = ()

    def __or__(self, other: Route) -> Route:
        return Route((*self, *other))

    @property
    def back(self) -> Route:
        """The reverse route, which answers take."""
        return Route((receiver, sender) for sender, receiver in self)


class Roles(tuple[int, ...]):
    """One role, or several that may send or receive the same messages."""

    __slots__ = ()

    def __or__(self, other: Roles) -> Roles:
        return Roles((*self, *other))

    def __rshift__(self, receivers: Roles) -> Route:
        return Route((sender, receiver) for sender in self for receiver in receivers)


WORKER = Roles((ROLE_WORKER,))
DEVICES = Roles((ROLE_DEVICES,))
LAUNCHER = Roles((ROLE_LAUNCHER,))
COORDINATOR = Roles((ROLE_COORDINATOR,))
OPERATOR = Roles((ROLE_OPERATOR,))
DEBUGGER = Roles((ROLE_DEBUGGER,))
NODE = Roles((ROLE_NODE,))
AGENT = Roles((ROLE_HOST,))
