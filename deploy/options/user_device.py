# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be seen to be wrong with a `--device` before anything is started."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from allstop.vm.board import FIXED_RANGES
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.specs import DeviceSpec
from allstop.vm.errors import UsageError

PAGE_BYTES = 4096
_IPA_END = 1 << 32


def check_device(device: DeviceSpec, memory_bytes: int, others: Sequence[DeviceSpec]) -> None:
    """What can be known of a device without running its file, which is the device server's to do. Raises UsageError.

    `others` come before it on the command line.
    """
    where = f"device {device.class_name} at {device.ipa:#010x}"
    if not device.class_name.isidentifier():
        raise UsageError(f"{device.class_name!r} is no name of a Python class (device {device.path})")
    _check_device_file(Path(device.path))
    if not 0 <= device.ipa < _IPA_END or device.ipa % PAGE_BYTES:
        raise UsageError(
            f"a device lies at a 32-bit guest address that is a multiple of {PAGE_BYTES}, not {device.ipa:#x}"
        )
    if RAM_BASE <= device.ipa < RAM_BASE + memory_bytes:
        raise UsageError(f"{where} would lie in the guest's memory")
    for base, size_bytes in FIXED_RANGES:
        if base <= device.ipa < base + size_bytes:
            raise UsageError(
                f"{where} would lie on a device of the board's own ({base:#010x} to "
                f"{base + size_bytes - 1:#010x}): choose another address"
            )
    for other in others:
        if other.ipa == device.ipa:
            raise UsageError(f"{where} would lie on device {other.class_name} at the same address")


def _check_device_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"the device file {path} does not exist")
    if path.suffix != ".py":
        raise UsageError(f"the device file {path} is not a Python file: its name must end in .py")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the device server will say them
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise UsageError(f"the device file {path} cannot be read: {error.strerror}") from None
    except SyntaxError as error:
        line = "" if error.lineno is None else f" (line {error.lineno})"
        raise UsageError(f"the device file {path} is not Python: {error.msg}{line}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL byte; nested beyond the parser's strength
        raise UsageError(f"the device file {path} is not Python: {error}") from None
