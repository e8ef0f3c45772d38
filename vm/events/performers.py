# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions that perform actions: a process registers one function under the name of each row that is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from allstop.vm.events.vocabulary import ACTIONS, Action

F = TypeVar("F", bound=Callable[..., Any])


class Performers(Generic[F]):
    """The functions that perform `rows`. Use it as a decorator: `@performs("stall")`."""

    def __init__(self, rows: Iterable[Action]) -> None:
        self._missing = {row.name for row in rows}
        self._functions: dict[str, F] = {}

    def __call__(self, name: str) -> Callable[[F], F]:
        """Register the decorated function. Raises ValueError when `name` has no row here, or a function already."""
        if name not in self._missing:
            reason = "has a performer already" if name in self._functions else "is no action of this process"
            raise ValueError(f"the action {name} {reason}")

        def register(function: F) -> F:
            self._missing.remove(name)
            self._functions[name] = function
            return function

        return register

    def __getitem__(self, name: str) -> F:
        return self._functions[name]

    @property
    def names(self) -> frozenset[str]:
        """The actions that have a function."""
        return frozenset(self._functions)

    @property
    def missing(self) -> frozenset[str]:
        """The rows that have none yet."""
        return frozenset(self._missing)


def rows_of(performer: str, on_reply: bool = False) -> list[Action]:
    """The rows of one process: those done to replies, or the others."""
    return [row for row in ACTIONS.values() if row.performer == performer and row.on_reply == on_reply]
