# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user may ask of a run, checked: the command line and the Python API share it word for word."""
from __future__ import annotations

import math
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allstop.machine.configuration import (
    DECODERS,
    FETCH_POLICIES,
    MAX_VCPUS,
    RAM_BASE,
    TLB_DISCIPLINES,
    DeviceSpec,
)
from allstop.machine.images import RAW_LOAD_IPA, Image, ImageError, check_range, is_elf, parse_elf, parse_raw
from allstop.machine.memory import parse_size
from deploy.errors import UsageError

DEFAULT_MEMORY = "64M"
RAW_SUFFIXES = (".bin", ".img", ".raw")
_DEVICE = re.compile(r"(?P<path>.+):(?P<name>[^:@]+)@(?P<ipa>[^@]+)")
_IPA_END = 1 << 32
_LONGEST_NUMBER = 64
_MAX_IMAGE_BYTES = 1 << 32


@dataclass(frozen=True)
class RunOptions:
    """One run, as asked for. Construction raises UsageError where a value can not be right.

    `memory_bytes` is the guest's RAM. `timeout_s` counts from the guest's first instruction; None is no limit.
    `load_ipa` makes the image a raw one, wherever it is to lie. `run_dir` None keeps nothing on disk.
    `as_shipped` runs unicorn without what makes it fit for several processes, for the conformance gate to be seen red.
    `pin` keeps each vCPU on one core.
    """

    image: Path
    vcpus: int = 1
    memory_bytes: int = 64 << 20
    timeout_s: float | None = None
    run_dir: Path | None = None
    fetch: str = "stop-world"
    tlb: str = "broadcast"
    decode: str = "full"
    seed: int = 0
    parameter: int = 0
    load_ipa: int | None = None
    devices: tuple[DeviceSpec, ...] = field(default=())
    as_shipped: bool = False
    keep_going: bool = False
    journal: bool = False
    pin: bool = False

    def __post_init__(self) -> None:
        for name, value in (("number of vCPUs", self.vcpus), ("seed", self.seed), ("parameter", self.parameter)):
            if not isinstance(value, int):
                raise UsageError(f"the {name} must be a whole number, not {value!r}")
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise UsageError(f"a machine has 1 to {MAX_VCPUS} vCPUs, not {self.vcpus}")
        if self.timeout_s is not None and not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise UsageError(f"the timeout must be a positive number of seconds, not {self.timeout_s}")
        if self.journal and self.run_dir is None:
            raise UsageError("a journal needs a folder to lie in: name one with --run-dir")
        memory_size(self.memory_bytes)
        check_choice("fetch policy", self.fetch, FETCH_POLICIES)
        check_choice("TLB discipline", self.tlb, TLB_DISCIPLINES)
        check_choice("decoder", self.decode, DECODERS)
        for name, value in (("seed", self.seed), ("parameter", self.parameter)):
            if not 0 <= value < 1 << 32:
                raise UsageError(f"the {name} must be a number of 32 bits, 0 to 4294967295, not {value}")
        if self.load_ipa is not None and not 0 <= self.load_ipa < _IPA_END:
            raise UsageError(f"the load address must be a 32-bit guest address, not {self.load_ipa:#x}")
        for device in self.devices:
            _check_device(device, self.memory_bytes)

    def read_image(self) -> Image:
        """The image, read and checked. Raises UsageError.

        Its content says what it is. A file without the ELF magic number is taken for a raw image only when a load
        address or its name says that it is one: whoever names the wrong file should learn that, not run it.
        """
        try:
            status = self.image.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("is not a regular file")
            with self.image.open("rb") as file:
                elf = self.load_ipa is None and is_elf(file.read(4))
                file.seek(0)
                if not elf:
                    load_ipa = self._raw_load_ipa()
                    check_range("", load_ipa, status.st_size, self.memory_bytes)
                elif status.st_size >= _MAX_IMAGE_BYTES:
                    raise ImageError("is larger than any image can be")
                data = file.read(status.st_size)
            return parse_elf(data, self.memory_bytes) if elf else parse_raw(data, self.memory_bytes, load_ipa)
        except OSError as error:
            raise UsageError(f"the image {self.image} can not be read: {error.strerror}") from None
        except ImageError as error:
            raise UsageError(f"the image {self.image} {error}") from None

    def _raw_load_ipa(self) -> int:
        if self.load_ipa is not None:
            return self.load_ipa
        if self.image.suffix.lower() not in RAW_SUFFIXES:
            raise ImageError(f"is not an ELF file; if it is a raw image, say --load {RAW_LOAD_IPA:#x} "
                             "(the address to place it at)")
        return RAW_LOAD_IPA


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise UsageError unless `value` is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{value!r} is no {what}: choose one of {', '.join(choices)}")


def memory_size(text: str | int) -> int:
    """`--memory`'s value in bytes. Raises UsageError."""
    try:
        return parse_size(str(text))
    except ValueError as error:
        raise UsageError(str(error)) from None


def number(what: str, text: str) -> int:
    """A whole number in any of Python's notations. Raises UsageError."""
    try:
        if len(text) > _LONGEST_NUMBER:  # Python would read it, and then refuse to print it
            raise ValueError
        return int(text, 0)
    except ValueError:
        raise UsageError(f"the {what} must be a whole number, not {text[:_LONGEST_NUMBER]!r}") from None


def device(text: str) -> DeviceSpec:
    """`FILE.py:Class@ADDRESS` as a DeviceSpec with an absolute path. Raises UsageError."""
    match = _DEVICE.fullmatch(text)
    if match is None:
        raise UsageError(f"a device is given as FILE.py:Class@ADDRESS, not {text!r}")
    path = Path(match["path"]).absolute()
    return DeviceSpec(str(path), match["name"], number(f"address of device {match['name']}", match["ipa"]))


def _check_device(device: DeviceSpec, memory_bytes: int) -> None:
    if not device.class_name.isidentifier():
        raise UsageError(f"{device.class_name!r} is no name of a Python class (device {device.path})")
    if not Path(device.path).is_file():
        raise UsageError(f"the device file {device.path} does not exist")
    if not 0 <= device.ipa < _IPA_END or device.ipa % 4096:
        raise UsageError(f"a device lies at a 32-bit guest address that is a multiple of 4096, not {device.ipa:#x}")
    if RAM_BASE <= device.ipa < RAM_BASE + memory_bytes:
        raise UsageError(f"device {device.class_name} at {device.ipa:#010x} would lie in the guest's memory")
