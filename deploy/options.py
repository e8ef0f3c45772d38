# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user may ask of a run, checked: the command line and the Python API share it word for word."""
from __future__ import annotations

import math
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allstop.events.scenario import Scenario, ScenarioError, parse
from allstop.machine.configuration import (
    DECODERS,
    FETCH_POLICIES,
    MAX_VCPUS,
    TLB_DISCIPLINES,
    DeviceSpec,
    HandlerSpec,
)
from allstop.machine.images import RAW_LOAD_IPA, Image, ImageError, check_range, is_elf, parse_elf, parse_raw, symbols
from allstop.machine.memory import parse_size
from deploy.errors import UsageError
from deploy.processes import child_environment, describe_exit
from deploy.user_device import check_device

DEFAULT_MEMORY = "64M"
RAW_SUFFIXES = (".bin", ".img", ".raw")
_DEVICE = re.compile(r"(?P<path>.+):(?P<name>[^:@]+)@(?P<ipa>[^@]+)")
_HANDLER = re.compile(r"(?P<path>.+):(?P<name>[^:]+)")
_HANDLER_LOADS_S = 30.0
_IPA_END = 1 << 32
_LONGEST_NUMBER = 64
_LONGEST_TIMEOUT_S = 10 ** 9
_MAX_IMAGE_BYTES = 1 << 32


@dataclass(frozen=True)
class RunOptions:
    """One run, as asked for. Construction raises UsageError where a value can not be right.

    `memory_bytes` is the guest's RAM. `timeout_s` counts from the guest's first instruction; None is no limit.
    `load_ipa` makes the image a raw one, wherever it is to lie. `run_dir` None keeps nothing on disk.
    `as_shipped` runs unicorn without what makes it fit for several processes, for the conformance gate to be seen red.
    `pin` keeps each vCPU on one core. `semihosting` lets the guest call its host, and open files in `semihosting_dir`.
    `exit_status_line` takes the verdict from the line EXIT: STATUS=N on the console.
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
    events: Scenario = field(default=Scenario())
    fetch_handler: HandlerSpec | None = None
    pin: bool = False
    semihosting: bool = False
    semihosting_dir: Path | None = None
    exit_status_line: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise UsageError(f"a machine has 1 to {MAX_VCPUS} vCPUs, not {self.vcpus}")
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise UsageError(f"the timeout must be a positive number of seconds, not {_shown(self.timeout_s)}")
        if self.journal and self.run_dir is None:
            raise UsageError("a journal needs a folder to lie in: name one with --run-dir")
        if self.semihosting_dir is not None:
            if not self.semihosting:
                raise UsageError("a folder for semihosting is of no use without --semihosting")
            if not self.semihosting_dir.is_dir():
                raise UsageError(f"the folder for semihosting, {self.semihosting_dir}, is no folder")
        memory_size(self.memory_bytes)
        check_choice("fetch policy", self.fetch, FETCH_POLICIES)
        check_choice("TLB discipline", self.tlb, TLB_DISCIPLINES)
        check_choice("decoder", self.decode, DECODERS)
        for name, value in (("seed", self.seed), ("parameter", self.parameter)):
            if not 0 <= value < 1 << 32:
                raise UsageError(f"the {name} must be a number of 32 bits, 0 to 4294967295, not {value}")
        if self.load_ipa is not None and not 0 <= self.load_ipa < _IPA_END:
            raise UsageError(f"the load address must be a 32-bit guest address, not {self.load_ipa:#x}")
        for event in self.events.events:
            for name, vcpu in (("vcpu", event.vcpu), ("target", event.target)):
                if isinstance(vcpu, int) and vcpu >= self.vcpus:
                    raise UsageError(f"event {event.name}: {name} is {vcpu}, the machine has vCPUs 0 to "
                                     f"{self.vcpus - 1}")
        if (self.fetch == "user") != (self.fetch_handler is not None):
            raise UsageError("the fetch policy user and a fetch handler go together: give both, as in --fetch user "
                             "--fetch-handler FILE.py:function, or neither")
        for place, device in enumerate(self.devices):
            check_device(device, self.memory_bytes, self.devices[:place])

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

    def resolved_events(self) -> Scenario:
        """The events, with addresses for the image's symbols. Raises UsageError."""
        try:
            found = symbols(self.image.read_bytes()) if self.load_ipa is None and self.events.events else {}
            return self.events.resolved(found.get)
        except OSError as error:
            raise UsageError(f"the image {self.image} can not be read: {error.strerror}") from None
        except ScenarioError as error:
            raise UsageError(str(error)) from None

    def check_fetch_handler(self) -> None:
        """Raise UsageError unless the fetch handler, if there is one, can be loaded and called: a process of its own
        tries, so that the user's code is not executed in this one."""
        spec = self.fetch_handler
        if spec is None:
            return
        try:
            tried = subprocess.run(
                (sys.executable, "-P", "-m", "allstop.machine.user_code", str(os.getpid()), spec.path,
                 spec.function_name), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                timeout=_HANDLER_LOADS_S, env=child_environment(), check=False)
        except subprocess.TimeoutExpired:
            raise UsageError(f"the fetch handler's file {spec.path} was still loading after {_HANDLER_LOADS_S:g} s"
                             ) from None
        if tried.returncode:
            said = tried.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise UsageError(f"the fetch handler can not be used: {said or describe_exit(tried.returncode)}")

    def _raw_load_ipa(self) -> int:
        if self.load_ipa is not None:
            return self.load_ipa
        if self.image.suffix.lower() not in RAW_SUFFIXES:
            raise ImageError(f"is not an ELF file; if it is a raw image, say --load {RAW_LOAD_IPA:#x} "
                             "(the address to place it at)")
        return RAW_LOAD_IPA


def absolute(what: str, path: Path) -> Path:
    """`path` from the root on; `what` names it in the sentence. Raises UsageError where there is no current folder."""
    try:
        return path.absolute()
    except OSError:
        raise UsageError(f"the {what} {path} is named from the current folder, which does not exist any more: change "
                         "to another folder, or name it from / on") from None


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise UsageError unless `value` is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{_shown(value)} is no {what}: choose one of {', '.join(choices)}")


def path_of(what: str, value: str | os.PathLike[str]) -> Path:
    """A path as a Python caller gives it. Raises UsageError."""
    try:
        path = Path(value)
        os.fsencode(path)
    except (TypeError, ValueError):
        raise UsageError(f"the {what} must be a path, not {_shown(value)}") from None
    if "\0" in str(path):
        raise UsageError(f"the {what} {_shown(str(path))} holds a NUL character, which no path can")
    return path


def memory_size(text: str | int) -> int:
    """`--memory`'s value in bytes. Raises UsageError."""
    if isinstance(text, bool) or not isinstance(text, (str, int)) or isinstance(text, int) and abs(text) >= 1 << 64:
        raise UsageError(f"the memory must be a size such as \"64M\" or a number of bytes, not {_shown(text)}")
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


def scenario(path: Path) -> Scenario:
    """The scenario in a file. Raises UsageError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ScenarioError):
            raise UsageError(str(error)) from None
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UsageError(f"the scenario {path} can not be read: {why}") from None


def device(text: str) -> DeviceSpec:
    """`FILE.py:Class@ADDRESS` as a DeviceSpec with an absolute path. Raises UsageError."""
    match = _DEVICE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"a device is given as FILE.py:Class@ADDRESS, not {_shown(text)}")
    path = absolute("device file", path_of("device file", match["path"]))
    return DeviceSpec(str(path), match["name"], number(f"address of device {match['name']}", match["ipa"]))


def handler(text: str) -> HandlerSpec:
    """`FILE.py:function` as a HandlerSpec with an absolute path. Raises UsageError."""
    match = _HANDLER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"a fetch handler is given as FILE.py:function, not {_shown(text)}")
    path = absolute("fetch handler's file", path_of("fetch handler's file", match["path"]))
    return HandlerSpec(str(path), match["name"])


def _check_types(options: RunOptions) -> None:
    """A Python caller may have given anything."""
    path_of("image", options.image)
    if options.run_dir is not None:
        path_of("run folder", options.run_dir)
    if options.semihosting_dir is not None:
        path_of("folder for semihosting", options.semihosting_dir)
    for name, number_ in (("number of vCPUs", options.vcpus), ("seed", options.seed), ("parameter", options.parameter),
                          ("load address", 0 if options.load_ipa is None else options.load_ipa)):
        if not isinstance(number_, int) or isinstance(number_, bool):
            raise UsageError(f"the {name} must be a whole number, not {_shown(number_)}")
        if abs(number_) >= _IPA_END:  # more than any of them can be, and perhaps more than Python prints
            raise UsageError(f"the {name} must be a number of 32 bits, not {_shown(number_)}")
    timeout_s = options.timeout_s
    if timeout_s is not None and (not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool)):
        raise UsageError(f"the timeout must be a number of seconds, not {_shown(timeout_s)}")
    if timeout_s is not None and _LONGEST_TIMEOUT_S < timeout_s < math.inf:
        raise UsageError(f"the timeout must be a positive number of seconds, {_LONGEST_TIMEOUT_S} at most, not "
                         f"{_shown(timeout_s)}")
    for name, switch in (("as_shipped", options.as_shipped), ("keep_going", options.keep_going),
                         ("journal", options.journal), ("pin", options.pin),
                         ("semihosting", options.semihosting), ("exit_status_line", options.exit_status_line)):
        if not isinstance(switch, bool):
            raise UsageError(f"{name} must be True or False, not {_shown(switch)}")


def _shown(value: object) -> str:
    """A value in a sentence: on one line, and not all of it when there is much."""
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits, or somebody's own class
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_NUMBER else f"{text[:_LONGEST_NUMBER]}..."
