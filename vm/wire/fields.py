# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of a message's fields. `allstop.vm.wire.codec` checks each field against its annotation."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

MAX_TEXT = 4096
"""Characters in a Text."""
MAX_BLOB = 1 << 20
"""Bytes in a Blob."""


class Bits(NamedTuple):
    """Width of an unsigned integer field."""

    width: int


U8 = Annotated[int, Bits(8)]
U16 = Annotated[int, Bits(16)]
U32 = Annotated[int, Bits(32)]
U64 = Annotated[int, Bits(64)]
Flag: TypeAlias = bool
Text: TypeAlias = str
Blob: TypeAlias = bytes
