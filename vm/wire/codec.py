# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages to bytes and back. Any bytes that are not exactly one well-formed message raise MalformedError.

The decoders are compiled from the annotations of the messages: a message is checked field by field on every receipt,
and that check is on the MMIO path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import msgpack

from allstop.vm.wire import messages  # noqa: F401  all of them, for the tables
from allstop.vm.wire.fields import MAX_BLOB, MAX_TEXT, Bits
from allstop.vm.wire.message import KINDS, NUMBERS, Message


class MalformedError(ValueError):
    """The bytes are not one of our messages; the text says why."""


def _field_check(name: str, annotation: Any) -> str:
    """The Python expression that is true when local `name` satisfies `annotation`."""
    if get_origin(annotation) is Annotated:
        bits: Bits = get_args(annotation)[1]
        return f"{name}.__class__ is int and 0 <= {name} < {1 << bits.width}"
    if annotation is bool:
        return f"{name}.__class__ is bool"
    if annotation is str:
        return f"{name}.__class__ is str and len({name}) <= {MAX_TEXT}"
    if annotation is bytes:
        return f"{name}.__class__ is bytes and len({name}) <= {MAX_BLOB}"
    raise TypeError(f"no check is known for the annotation {annotation!r} of field {name}")


def _compile_decoder(kind: type[Message]) -> Callable[[list[Any]], Message]:
    hints = get_type_hints(kind, include_extras=True)
    fields = kind._fields
    lines = ["def decode(items):"]
    target = ", ".join(("number", *fields))
    lines.append(f"    {target}{',' if not fields else ''} = items")
    if fields:
        lines.append("    if " + " and ".join(f"({_field_check(name, hints[name])})" for name in fields) + ":")
        lines.append(f"        return new(cls, ({', '.join(fields)},))")
        lines.append(f"    raise malformed('a field of {kind.__name__} is out of range or of the wrong type')")
    else:
        lines.append("    return cls()")
    namespace: dict[str, Any] = {"cls": kind, "new": tuple.__new__, "malformed": MalformedError}
    exec("\n".join(lines), namespace)
    return cast("Callable[[list[Any]], Message]", namespace["decode"])


class _Decoders(dict[int, Callable[[list[Any]], Message]]):
    """By a message's number, each compiled when it is first needed: a process gets few of all kinds. KeyError: no
    message has this number."""

    def __missing__(self, number: int) -> Callable[[list[Any]], Message]:
        made = self[number] = _compile_decoder(KINDS[number])
        return made


_DECODERS = _Decoders()
_unpack = msgpack.unpackb
_pack = msgpack.Packer(autoreset=True).pack


def encode(message: Message) -> bytes:
    """One message as msgpack: [number, field, ...]."""
    return cast(bytes, _pack((NUMBERS[message.__class__], *message)))


def decode(data: bytes | memoryview) -> Message:
    """Inverse of `encode`. Raises MalformedError on anything that is not exactly one well-formed message."""
    try:
        items = _unpack(
            data, max_str_len=4 * MAX_TEXT, max_bin_len=MAX_BLOB, max_array_len=64, max_map_len=0, max_ext_len=0
        )
    except Exception as error:  # msgpack raises a dozen kinds; to a receiver they are all one
        raise MalformedError(f"not msgpack: {error.__class__.__name__}") from None
    if items.__class__ is not list or not items:
        raise MalformedError("not a message: a non-empty array was expected")
    number = items[0]
    try:
        decoder = _DECODERS[number if number.__class__ is int else -1]
    except KeyError:
        raise MalformedError("not a message: unknown number") from None
    try:
        return decoder(items)
    except MalformedError:
        raise
    except ValueError:
        raise MalformedError(f"message {number} has the wrong number of fields") from None
