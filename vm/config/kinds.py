# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of values that options take: how each is read from a command line, taken from Python, checked and written.

`what` names the option in sentences ("the seed must be ..."). Every method raises UsageError, and nothing else, for
whatever it is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from allstop.vm.config.limits import DRIVE_MODES, MAX_MEMORY_BYTES, MEMORY_STEP_BYTES
from allstop.vm.config.paths import LONGEST_SHOWN, absolute, path_of, shown
from allstop.vm.config.specs import DeviceSpec, DriveSpec, HandlerSpec
from allstop.vm.errors import UsageError

WORD_MAX = (1 << 32) - 1
MAX_COMMAND_LINE_BYTES = 2048
_LONGEST_TIMEOUT_S = 10**9
_MAX_SIZE_DIGITS = 16
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_DEVICE = re.compile(r"(?P<path>.+):(?P<name>[^:@]+)@(?P<ipa>[^@]+)")
_HANDLER = re.compile(r"(?P<path>.+):(?P<name>[^:]+)")


class Kind:
    """One kind of value; this one is any text."""

    annotation = "str"
    """The type of what a Python caller gives, as source text."""
    allowed = "text"
    """What a value may be, in words: "must be ..."."""
    has_value = True
    """Whether the command line's flag is followed by a value."""
    is_list = False

    def read(self, what: str, text: str) -> Any:
        """The value that a command line's `text` stands for."""
        return self.accept(what, text)

    def accept(self, what: str, value: Any) -> Any:
        """The value that a Python caller's `value` stands for."""
        self.check(what, value)
        return value

    def check(self, what: str, value: Any) -> None:
        """Raise UsageError unless a run can have `value`, as `read` and `accept` return it."""
        if not isinstance(value, str):
            raise UsageError(f"the {what} must be {self.allowed}, not {shown(value)}")

    def public(self, value: Any) -> Any:
        """`value` as a Python caller would give it."""
        return value

    def arguments(self, flag: str, value: Any) -> list[str]:
        """The words of a command line that ask for `value`."""
        return [f"{flag}={value}"]


class Switch(Kind):
    """True or False; on the command line the flag alone means True."""

    annotation = "bool"
    allowed = "true or false"
    has_value = False

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise UsageError(f"{what} must be True or False, not {shown(value)}")

    def arguments(self, flag: str, value: Any) -> list[str]:
        return [flag] if value else []


class Whole(Kind):
    """A whole number from `low` to `high`, in any of Python's notations on a command line."""

    annotation = "int"

    def __init__(self, low: int, high: int, hexadecimal: bool = False) -> None:
        self.low, self.high, self._hexadecimal = low, high, hexadecimal
        self.allowed = f"a whole number, {low} to {high}"

    def read(self, what: str, text: str) -> int:
        return number(what, text)

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"the {what} must be a whole number, not {shown(value)}")
        if not self.low <= value <= self.high:
            given = f"{value:#x}" if self._hexadecimal and abs(value) < 1 << 64 else shown(value)
            raise UsageError(f"the {what} must be {self.low} to {self.high}, not {given}")

    def arguments(self, flag: str, value: Any) -> list[str]:
        return [f"{flag}={value:#x}" if self._hexadecimal else f"{flag}={value}"]


class Choice(Kind):
    """One of `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.allowed = f"one of {', '.join(self.names)}"

    def check(self, what: str, value: Any) -> None:
        check_choice(what, value, self.names)


class Size(Kind):
    """A size of memory in bytes, as a number or as text such as "64M"."""

    annotation = "str | int"
    allowed = 'a size such as "64M", or a number of bytes, in steps of 2M'

    def accept(self, what: str, value: Any) -> int:
        return memory_size(value)

    def check(self, what: str, value: Any) -> None:
        memory_size(value)

    def public(self, value: Any) -> Any:
        return f"{value >> 20}M"


class Seconds(Kind):
    """A positive number of seconds."""

    annotation = "float"
    allowed = "a positive number of seconds"

    def read(self, what: str, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"the {what} must be a number of seconds, not {shown(text)}") from None

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UsageError(f"the {what} must be a number of seconds, not {shown(value)}")
        if not 0 < value < math.inf:
            raise UsageError(f"the {what} must be a positive number of seconds, not {shown(value)}")
        if value > _LONGEST_TIMEOUT_S:
            raise UsageError(
                f"the {what} must be a positive number of seconds, {_LONGEST_TIMEOUT_S} at most, not {shown(value)}"
            )


class AnyPath(Kind):
    """A path, as text or as os.PathLike."""

    annotation = "str | os.PathLike[str]"
    allowed = "a path"

    def accept(self, what: str, value: Any) -> Path:
        return path_of(what, value)

    def check(self, what: str, value: Any) -> None:
        path_of(what, value)


class CommandLine(Kind):
    """The command line of a kernel: printable ASCII, for a kernel takes nothing else."""

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, str):
            raise UsageError(f"the {what} must be text, not {shown(value)}")
        if not (value.isascii() and (not value or value.isprintable())):
            raise UsageError(f"the {what} must be printable ASCII: a kernel takes nothing else")
        if len(value) >= MAX_COMMAND_LINE_BYTES:
            raise UsageError(f"the {what} has {len(value)} characters: {MAX_COMMAND_LINE_BYTES - 1} are the most")


class Device(Kind):
    """`FILE.py:Class@ADDRESS`; the path is made absolute."""

    def accept(self, what: str, value: Any) -> DeviceSpec:
        match = _DEVICE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise UsageError(f"a device is given as FILE.py:Class@ADDRESS, not {shown(value)}")
        path = absolute("device file", path_of("device file", match["path"]))
        return DeviceSpec(str(path), match["name"], number(f"address of device {match['name']}", match["ipa"]))

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, DeviceSpec):
            raise UsageError(f"a device is a DeviceSpec, not {shown(value)}")


class Drive(Kind):
    """`FILE[,MODE]`; the path is made absolute. A comma in a file's name needs a mode behind it."""

    def accept(self, what: str, value: Any) -> DriveSpec:
        if not isinstance(value, str):
            raise UsageError(f"a drive is given as FILE or FILE,MODE, not {shown(value)}")
        path, comma, mode = value.rpartition(",")
        if not comma:
            path, mode = value, DRIVE_MODES[0]
        if not path:
            raise UsageError(f"a drive is given as FILE or FILE,MODE, not {shown(value)}")
        return DriveSpec(str(absolute("drive's image", path_of("drive's image", path))), mode)

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, DriveSpec):
            raise UsageError(f"a drive is a DriveSpec, not {shown(value)}")
        check_choice("mode of a drive", value.mode, DRIVE_MODES)


class Function(Kind):
    """`FILE.py:FUNCTION`; the path is made absolute."""

    def accept(self, what: str, value: Any) -> HandlerSpec:
        match = _HANDLER.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise UsageError(f"a {what} is given as FILE.py:function, not {shown(value)}")
        path = absolute(f"{what}'s file", path_of(f"{what}'s file", match["path"]))
        return HandlerSpec(str(path), match["name"])

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, HandlerSpec):
            raise UsageError(f"a {what} is a HandlerSpec, not {shown(value)}")


class Many(Kind):
    """A list of values of one kind; on a command line the flag is repeated."""

    is_list = True

    def __init__(self, each: Kind, form: str) -> None:
        self._each, self._form = each, form
        self.annotation = f"Sequence[{each.annotation}]"
        self.allowed = f"a list of {form}"

    def read(self, what: str, text: Any) -> tuple[Any, ...]:
        return tuple(self._each.read(what, one) for one in text)

    def accept(self, what: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise UsageError(f"{what} must be a list of {self._form}, not {shown(value)}")
        return tuple(self._each.accept(what, one) for one in value)

    def check(self, what: str, value: Any) -> None:
        for one in value:
            self._each.check(what, one)

    def arguments(self, flag: str, value: Any) -> list[str]:
        return [word for one in value for word in self._each.arguments(flag, one)]


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Raise UsageError unless `value` is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{shown(value)} is no {what}: choose one of {', '.join(choices)}")


def number(what: str, text: str) -> int:
    """A whole number in any of Python's notations. Raises UsageError."""
    try:
        if len(text) > LONGEST_SHOWN:  # Python would read it, and then refuse to print it
            raise ValueError
        return int(text, 0)
    except ValueError:
        raise UsageError(f"the {what} must be a whole number, not {text[:LONGEST_SHOWN]!r}") from None


def memory_size(value: str | int) -> int:
    """`--memory`'s value in bytes. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or isinstance(value, int) and abs(value) >= 1 << 64:
        raise UsageError(f'the memory must be a size such as "64M" or a number of bytes, not {shown(value)}')
    text = str(value)
    cleaned = text.strip().upper().removesuffix("IB").removesuffix("B")
    digits = cleaned.rstrip("KMG")
    factor = _UNITS.get(cleaned[len(digits) :])
    if factor is None or not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_SIZE_DIGITS):
        raise UsageError(f"a size such as 64M or 1G is expected, not {shown(text)}")
    size = int(digits) * factor
    if not MEMORY_STEP_BYTES <= size <= MAX_MEMORY_BYTES or size % MEMORY_STEP_BYTES:
        raise UsageError(f"a guest can have 2M to {MAX_MEMORY_BYTES >> 20}M of memory, in steps of 2M, not {text}")
    return size
