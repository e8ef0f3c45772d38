# SPDX-License-Identifier: GPL-2.0-or-later
"""Every message survives the wire, and nothing that comes from the wire raises anything but MalformedError."""

from __future__ import annotations

import contextlib
import pickle
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.vm.wire import messages
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.message import KINDS, message
from allstop.vm.wire.messages import (
    MAX_BLOB,
    MAX_TEXT,
    NUMBERS,
    ROUTES,
    ComponentFailed,
    Hello,
    Message,
    MmioRequest,
    PageAsked,
    Ping,
    PpiLevel,
    Shutdown,
)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    if get_origin(annotation) is Annotated:
        top = (1 << get_args(annotation)[1].width) - 1
        return st.one_of(st.sampled_from((0, 1, top)), st.integers(0, top))
    return {
        bool: st.booleans(),
        str: st.text(st.characters(exclude_categories=("Cs",)), max_size=50),
        bytes: st.binary(max_size=50),
    }[annotation]


def any_message() -> st.SearchStrategy[Message]:
    def of_kind(kind: type[Message]) -> st.SearchStrategy[Message]:
        hints = get_type_hints(kind, include_extras=True)
        return st.builds(kind, *(values_of(hints[name]) for name in kind._fields))

    return st.sampled_from(sorted(NUMBERS, key=NUMBERS.__getitem__)).flatmap(of_kind)


@given(message=any_message())
def test_every_message_survives_the_wire(message: Message) -> None:
    back = decode(encode(message))
    assert back == message and back.__class__ is message.__class__


@given(message=any_message())
def test_a_message_is_one_array_that_begins_with_its_number(message: Message) -> None:
    assert msgpack.unpackb(encode(message)) == [NUMBERS[message.__class__], *message]


@pytest.mark.fuzz
@given(data=st.binary(max_size=80))
def test_arbitrary_bytes_are_a_message_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        decode(data)


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(PLAIN, inner), max_leaves=10)


@pytest.mark.fuzz
@given(number=st.sampled_from(sorted(NUMBERS.values())), fields=st.lists(ANYTHING, max_size=6))
def test_arbitrary_fields_are_a_message_or_malformed(number: int, fields: list[Any]) -> None:
    data = msgpack.packb([number, *fields])
    try:
        message = decode(data)
    except MalformedError:
        return
    assert NUMBERS[message.__class__] == number
    assert [*message] == fields and all(a.__class__ is b.__class__ for a, b in zip(message, fields, strict=True))


@pytest.mark.fuzz
@given(message=any_message(), data=st.data())
@settings(max_examples=200)
def test_a_damaged_message_is_a_message_or_malformed(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedError):
        decode(bytes(damaged))


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.__name__)
def test_every_field_is_checked_for_kind_and_range(kind: type[Message]) -> None:
    hints = get_type_hints(kind, include_extras=True)
    good: list[Any] = []
    for name in kind._fields:
        good.append({bool: True, str: "x", bytes: b"x"}.get(hints[name], 1))
    assert decode(msgpack.packb([NUMBERS[kind], *good])) == kind(*good)
    for index, name in enumerate(kind._fields):
        if get_origin(hints[name]) is Annotated:
            wrong = [-1, True, 1.0, "1", None]
            if get_args(hints[name])[1].width < 64:
                wrong.append(1 << get_args(hints[name])[1].width)
        else:
            wrong = {bool: [0, 1, None], str: [b"x", 1, "x" * (MAX_TEXT + 1)], bytes: ["x", 1, b"x" * (MAX_BLOB + 1)]}[
                hints[name]
            ]
        for value in wrong:
            with pytest.raises(MalformedError):
                decode(msgpack.packb([NUMBERS[kind], *good[:index], value, *good[index + 1 :]]))
    for count in (len(good) - 1, len(good) + 1):
        with pytest.raises(MalformedError):
            decode(msgpack.packb([NUMBERS[kind], *[*good, 1][:count]] if count >= 0 else []))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\xc0",
        b"\x05",
        b"\x81\x05\x05",
        encode(Shutdown()) + b"\0",
        encode(Ping(1))[:-1],
        b"\x91\xc3",
        msgpack.packb(["5"]),
        msgpack.packb([5.0]),
        msgpack.packb([0]),
        msgpack.packb([2**64 - 1]),
        msgpack.packb([[5]]),
        msgpack.packb([19, 1, True, True]),
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xd4\x01\x00",
        b"\x92\x03\xd6\xff\x00\x00\x00\x00",
        b"\x92\x23\xa1\xff",
    ],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(data)


def test_the_longest_text_of_the_widest_characters_passes() -> None:
    message = ComponentFailed(1, 0, "\U0001f6d1" * MAX_TEXT)
    assert decode(encode(message)) == message
    assert decode(encode(Hello(1, b"x" * MAX_BLOB, 0, 0, 0))).__class__ is Hello


def test_a_message_decodes_from_a_view() -> None:
    assert decode(memoryview(encode(Ping(2)))) == Ping(2)
    assert decode(encode(PpiLevel(27, True, 0))).level is True


def test_every_message_has_a_number_of_its_own_and_a_route() -> None:
    assert set(NUMBERS) == set(ROUTES) == set(KINDS.values())
    assert len(set(NUMBERS.values())) == len(NUMBERS)
    assert all(ROUTES.values())


def test_every_class_that_is_written_as_a_message_is_one() -> None:
    """In a module whose import is missing it would be none."""
    written = [
        name
        for path in Path(messages.__file__).parent.glob("messages*.py")
        for name in re.findall(r"^class (\w+)\(Message\):", path.read_text(), re.MULTILINE)
    ]
    assert sorted(written) == sorted(kind.__name__ for kind in NUMBERS)
    assert all(getattr(messages, name) in NUMBERS for name in written)


def test_a_number_is_not_given_twice() -> None:
    with pytest.raises(ValueError, match="Again has number 1, which is that of Hello"):

        @message(1, ROUTES[Hello])
        class Again(Message):
            """Not a message."""


def test_a_message_is_an_immutable_tuple_with_named_fields() -> None:
    request = MmioRequest(1, 2, 4, True, 5)
    assert request == (1, 2, 4, True, 5) and request._replace(seq=9).seq == 9
    assert repr(PageAsked(7, True)) == "PageAsked(page=7, write=True, offset=0)"
    assert pickle.loads(pickle.dumps(request)) == request
    for name in ("seq", "other"):
        with pytest.raises(AttributeError):
            setattr(request, name, 1)
