# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of a journal's records, from their rows in kinds.h. The stub beside this file is generated."""

from __future__ import annotations

import enum

from allstop.vm.journal.recorder import KINDS


class _Row(enum.IntEnum):
    def __new__(cls, number, operands, meaning, writer):
        kind = int.__new__(cls, number)
        kind._value_ = number
        kind.operands = tuple(operands.split())
        kind.meaning = meaning
        kind.writer = writer
        return kind

    @property
    def is_span(self):
        return "took_ns" in self.operands


Kind = _Row("Kind", {name: tuple(row) for name, *row in KINDS}, module=__name__)
