# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a class a message: `@message(number, route)`, which also enters it into the tables that are read here.

A message is a tuple with named fields, as `typing.NamedTuple` makes them, and of the type `Message`, so that mypy tells
it from any other tuple. Making and reading one is on the MMIO path: it costs what a NamedTuple costs.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

from allstop.vm.wire.routes import Route


class Message(tuple[Any, ...]):
    """The type of all messages."""

    __slots__ = ()
    if TYPE_CHECKING:  # else it would be a field by get_type_hints
        _fields: ClassVar[tuple[str, ...]]

    def _replace(self, **changes: Any) -> Self:
        """The same message with other values in some fields."""
        raise NotImplementedError


M = TypeVar("M", bound=Message)

NUMBERS: dict[type[Message], int] = {}
"""Each message's number on the wire."""
KINDS: dict[int, type[Message]] = {}
"""The inverse."""
ROUTES: dict[type[Message], Route] = {}
"""The roles that may send each message, and to which. A server drops a message that is not on its route."""


@dataclass_transform(frozen_default=True)
def message(number: int, route: Route) -> Callable[[type[M]], type[M]]:
    """Make the class below a message. A number is never used again for another one: CHANGELOG says what changed."""

    def define(described: type[M]) -> type[M]:
        fields = tuple(described.__annotations__)
        defaults = [vars(described)[name] for name in fields if name in vars(described)]
        made = namedtuple(described.__name__, fields, defaults=defaults)  # type: ignore[misc]
        members = dict(vars(made))  # `made` must live until here: its dictionary ends with it
        for name in ("__doc__", "__module__", "__annotations__"):
            members[name] = getattr(described, name)
        kind: type[M] = type(described.__name__, (Message,), members)
        if number in KINDS:
            raise ValueError(f"{kind.__name__} has number {number}, which is that of {KINDS[number].__name__}")
        NUMBERS[kind], KINDS[number], ROUTES[kind] = number, kind, route
        return kind

    return define
