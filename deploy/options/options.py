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

from allstop.deploy.errors import UsageError
from allstop.deploy.hosts.cluster import cluster_hosts
from allstop.deploy.hosts.hosts_file import HostsFile, place_vcpus, read_hosts
from allstop.deploy.options.boot_options import BootOptions
from allstop.deploy.options.console_place import FILE, STDIO, ConsolePlace
from allstop.deploy.options.gdb_address import GdbAddress
from allstop.deploy.options.user_device import check_device
from allstop.deploy.paths import LONGEST_SHOWN as _LONGEST_NUMBER
from allstop.deploy.paths import absolute as absolute
from allstop.deploy.paths import path_of as path_of
from allstop.deploy.paths import shown
from allstop.deploy.processes.processes import child_environment, describe_exit
from allstop.vm.boot.boot import Startup
from allstop.vm.boot.device_tree import RunFacts
from allstop.vm.boot.drive import DriveError, open_drive
from allstop.vm.boot.images import RAW_LOAD_IPA, Image, ImageError, check_range, is_elf, parse_elf, parse_raw, symbols
from allstop.vm.boot.linux_image import HEAD_BYTES, ZIMAGE_LOAD_IPA, foreign_kind, is_zimage, parse_zimage
from allstop.vm.config.machine import (
    DECODERS,
    DRIVE_MODES,
    FETCH_POLICIES,
    MAX_TIME_DILATION,
    MAX_VCPUS,
    TLB_DISCIPLINES,
    DeviceSpec,
    DriveSpec,
    HandlerSpec,
)
from allstop.vm.events.scenario import Scenario, ScenarioError, parse
from allstop.vm.memory.memory import parse_size

DEFAULT_MEMORY = "64M"
RAW_SUFFIXES = (".bin", ".img", ".raw", ".flat")
_DEVICE = re.compile(r"(?P<path>.+):(?P<name>[^:@]+)@(?P<ipa>[^@]+)")
_HANDLER = re.compile(r"(?P<path>.+):(?P<name>[^:]+)")
_HANDLER_LOADS_S = 30.0
_IPA_END = 1 << 32
_LONGEST_TIMEOUT_S = 10**9
_MAX_IMAGE_BYTES = 1 << 32


@dataclass(frozen=True)
class RunOptions:
    """One run, as asked for. Construction raises UsageError where a value cannot be right.

    `memory_bytes` is the guest's RAM. `timeout_s` counts from the guest's first instruction; None is no limit.
    `load_ipa` makes the image a raw one, wherever it is to lie. `run_dir` None keeps nothing on disk.
    `as_shipped` runs unicorn without what makes it fit for several processes, for the conformance gate to be seen red.
    `pin` keeps each vCPU on one core. `boot` is what the guest's kernel is given beside its image. `drives`,
    `virtio_console`, `rng` and `testdev` are virtio devices, in the order of docs/virtio.md; `virtio_legacy` gives them
    all legacy transports. `console` is where the guest's console is; `input` is a file to be typed there, or `-` for
    standard input. `gdb` is where a debugger may connect; `gdb_wait` has the machine wait for one. `semihosting` lets
    the guest call its host, and open files in `semihosting_dir`. `exit_status_line` takes the verdict from the line
    EXIT: STATUS=N on the console. `hosts` is a file that says on which hosts the vCPUs are; or
    `cluster` is a Dask scheduler, on whose workers they are beside this host, `cluster_hosts` in all.
    `time_dilation` is how many times slower than the host's the guest's clock goes.
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
    boot: BootOptions = field(default=BootOptions())
    drives: tuple[DriveSpec, ...] = field(default=())
    virtio_console: bool = False
    rng: bool = False
    testdev: bool = False
    virtio_legacy: bool = False
    console: ConsolePlace = ConsolePlace()
    input: Path | None = None
    gdb: GdbAddress | None = None
    gdb_wait: bool = False
    semihosting: bool = False
    semihosting_dir: Path | None = None
    exit_status_line: bool = False
    hosts: Path | None = None
    cluster: str | None = None
    cluster_hosts: int | None = None
    time_dilation: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise UsageError(f"a machine has 1 to {MAX_VCPUS} vCPUs, not {self.vcpus}")
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise UsageError(f"the timeout must be a positive number of seconds, not {shown(self.timeout_s)}")
        if self.journal and self.run_dir is None:
            raise UsageError("a journal needs a folder to lie in: name one with --run-dir")
        if self.gdb_wait and self.gdb is None:
            raise UsageError("to wait for a debugger, it needs a way in: give --gdb, too")
        if self.semihosting_dir is not None:
            if not self.semihosting:
                raise UsageError("a folder for semihosting is of no use without --semihosting")
            if not self.semihosting_dir.is_dir():
                raise UsageError(f"the folder for semihosting, {self.semihosting_dir}, is no folder")
        memory_size(self.memory_bytes)
        if self.hosts is not None and self.cluster is not None:
            raise UsageError("the hosts are those of a file or of a cluster: give one of --hosts and --cluster")
        if self.cluster is None:
            if self.cluster_hosts is not None:
                raise UsageError("so many hosts of which cluster? Give --cluster, too")
            self.hosts_file()
        check_choice("fetch policy", self.fetch, FETCH_POLICIES)
        check_choice("TLB discipline", self.tlb, TLB_DISCIPLINES)
        check_choice("decoder", self.decode, DECODERS)
        for name, value in (("seed", self.seed), ("parameter", self.parameter)):
            if not 0 <= value < 1 << 32:
                raise UsageError(f"the {name} must be a number of 32 bits, 0 to 4294967295, not {value}")
        if not 1 <= self.time_dilation <= MAX_TIME_DILATION:
            raise UsageError(f"the time dilation must be 1 to {MAX_TIME_DILATION}, not {self.time_dilation}")
        if self.load_ipa is not None and not 0 <= self.load_ipa < _IPA_END:
            raise UsageError(f"the load address must be a 32-bit guest address, not {self.load_ipa:#x}")
        for event in self.events.events:
            for name, vcpu in (("vcpu", event.vcpu), ("target", event.target)):
                if isinstance(vcpu, int) and vcpu >= self.vcpus:
                    raise UsageError(
                        f"event {event.name}: {name} is {vcpu}, the machine has vCPUs 0 to {self.vcpus - 1}"
                    )
        if (self.fetch == "user") != (self.fetch_handler is not None):
            raise UsageError(
                "the fetch policy user and a fetch handler go together: give both, as in --fetch user "
                "--fetch-handler FILE.py:function, or neither"
            )
        if self.input is not None and self.console.kind not in (STDIO, FILE):
            raise UsageError(f"input comes from where the console is, {self.console}, or from a file, not from both")
        for place, device in enumerate(self.devices):
            check_device(device, self.memory_bytes, self.devices[:place])
        for drive_ in self.drives:
            _check_drive(drive_)

    def hosts_file(self) -> HostsFile | None:
        """The machine's hosts, as a file or a cluster says; None where this one is the only one. Raises UsageError."""
        if self.cluster is not None:
            return HostsFile(cluster_hosts(self.cluster, self.cluster_hosts, self.vcpus))
        if self.hosts is None:
            return None
        file = read_hosts(self.hosts)
        place_vcpus(file.hosts, self.vcpus)
        return file

    def read_image(self) -> Image:
        """The image, read and checked. Raises UsageError.

        Its content says what it is. A file that is neither an ELF file nor a zImage is taken for a raw image only when
        a load address or its name says that it is one: whoever names the wrong file should learn that, not run it.
        """
        try:
            status = self.image.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("is not a regular file")
            with self.image.open("rb") as file:
                head = b"" if self.load_ipa is not None else file.read(HEAD_BYTES)
                file.seek(0)
                if is_elf(head):
                    if status.st_size >= _MAX_IMAGE_BYTES:
                        raise ImageError("is larger than any image can be")
                    return parse_elf(file.read(status.st_size), self.memory_bytes)
                if is_zimage(head):
                    check_range("", ZIMAGE_LOAD_IPA, status.st_size, self.memory_bytes)
                    return parse_zimage(file.read(status.st_size), self.memory_bytes)
                load_ipa = self._raw_load_ipa(head)
                check_range("", load_ipa, status.st_size, self.memory_bytes)
                return parse_raw(file.read(status.st_size), self.memory_bytes, load_ipa)
        except OSError as error:
            raise UsageError(f"the image {self.image} cannot be read: {error.strerror}") from None
        except ImageError as error:
            raise UsageError(f"the image {self.image} {error}") from None

    def startup(self) -> Startup:
        """The image with all that the guest is given beside it, placed in memory. Raises UsageError."""
        image = self.read_image()
        facts = RunFacts(self.vcpus, self.memory_bytes, self.boot.append, seed=self.seed)
        return self.boot.startup(self.image, image, facts)

    def symbols(self) -> dict[str, int]:
        """The image's symbols with their values; none where it has none, or cannot be read."""
        try:
            return symbols(self.image.read_bytes()) if self.load_ipa is None else {}
        except OSError:
            return {}

    def resolved_events(self) -> Scenario:
        """The events, with addresses for the image's symbols. Raises UsageError."""
        try:
            found = symbols(self.image.read_bytes()) if self.load_ipa is None and self.events.events else {}
            return self.events.resolved(found.get)
        except OSError as error:
            raise UsageError(f"the image {self.image} cannot be read: {error.strerror}") from None
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
                (
                    sys.executable,
                    "-P",
                    "-m",
                    "allstop.vm.process.user_code",
                    str(os.getpid()),
                    spec.path,
                    spec.function_name,
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_HANDLER_LOADS_S,
                env=child_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"the fetch handler's file {spec.path} was still loading after {_HANDLER_LOADS_S:g} s"
            ) from None
        if tried.returncode:
            said = tried.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise UsageError(f"the fetch handler cannot be used: {said or describe_exit(tried.returncode)}")

    def open_input(self) -> int:
        """A descriptor of what is to be typed on the console; 0 is standard input, -1 is nothing. Raises UsageError."""
        if self.input is None:
            return -1
        if str(self.input) == "-":
            return 0
        try:
            return os.open(self.input, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"the input {self.input} cannot be read: {error.strerror}") from None

    def _raw_load_ipa(self, head: bytes) -> int:
        if self.load_ipa is not None:
            return self.load_ipa
        if wrong := foreign_kind(head):
            raise ImageError(wrong)
        if self.image.suffix.lower() not in RAW_SUFFIXES:
            raise ImageError(
                f"is not an ELF file; if it is a raw image, say --load {RAW_LOAD_IPA:#x} (the address to place it at)"
            )
        return RAW_LOAD_IPA


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise UsageError unless `value` is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{shown(value)} is no {what}: choose one of {', '.join(choices)}")


def memory_size(text: str | int) -> int:
    """`--memory`'s value in bytes. Raises UsageError."""
    if isinstance(text, bool) or not isinstance(text, (str, int)) or isinstance(text, int) and abs(text) >= 1 << 64:
        raise UsageError(f'the memory must be a size such as "64M" or a number of bytes, not {shown(text)}')
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
        raise UsageError(f"the scenario {path} cannot be read: {why}") from None


def device(text: str) -> DeviceSpec:
    """`FILE.py:Class@ADDRESS` as a DeviceSpec with an absolute path. Raises UsageError."""
    match = _DEVICE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"a device is given as FILE.py:Class@ADDRESS, not {shown(text)}")
    path = absolute("device file", path_of("device file", match["path"]))
    return DeviceSpec(str(path), match["name"], number(f"address of device {match['name']}", match["ipa"]))


def drive(text: str) -> DriveSpec:
    """`FILE[,MODE]` as a DriveSpec with an absolute path. A comma in a file's name needs a mode behind it. Raises
    UsageError."""
    if not isinstance(text, str):
        raise UsageError(f"a drive is given as FILE or FILE,MODE, not {shown(text)}")
    path, comma, mode = text.rpartition(",")
    if not comma:
        path, mode = text, DRIVE_MODES[0]
    if not path:
        raise UsageError(f"a drive is given as FILE or FILE,MODE, not {shown(text)}")
    return DriveSpec(str(absolute("drive's image", path_of("drive's image", path))), mode)


def handler(text: str) -> HandlerSpec:
    """`FILE.py:function` as a HandlerSpec with an absolute path. Raises UsageError."""
    match = _HANDLER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"a fetch handler is given as FILE.py:function, not {shown(text)}")
    path = absolute("fetch handler's file", path_of("fetch handler's file", match["path"]))
    return HandlerSpec(str(path), match["name"])


def _check_drive(spec: DriveSpec) -> None:
    """Raise UsageError unless the drive's image can be used now; the device server opens it for good."""
    check_choice("mode of a drive", spec.mode, DRIVE_MODES)
    try:
        os.close(open_drive(spec)[0])
    except DriveError as error:
        raise UsageError(str(error)) from None


def _check_types(options: RunOptions) -> None:
    """A Python caller may have given anything."""
    path_of("image", options.image)
    if options.run_dir is not None:
        path_of("run folder", options.run_dir)
    if options.hosts is not None:
        path_of("hosts file", options.hosts)
    if options.input is not None:
        path_of("input", options.input)
    if not isinstance(options.console, ConsolePlace):
        raise UsageError(f"the console must be a ConsolePlace, not {shown(options.console)}")
    if options.semihosting_dir is not None:
        path_of("folder for semihosting", options.semihosting_dir)
    for name, number_ in (
        ("number of vCPUs", options.vcpus),
        ("seed", options.seed),
        ("parameter", options.parameter),
        ("time dilation", options.time_dilation),
        ("load address", 0 if options.load_ipa is None else options.load_ipa),
    ):
        if not isinstance(number_, int) or isinstance(number_, bool):
            raise UsageError(f"the {name} must be a whole number, not {shown(number_)}")
        if abs(number_) >= _IPA_END:  # more than any of them can be, and perhaps more than Python prints
            raise UsageError(f"the {name} must be a number of 32 bits, not {shown(number_)}")
    timeout_s = options.timeout_s
    if timeout_s is not None and (not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool)):
        raise UsageError(f"the timeout must be a number of seconds, not {shown(timeout_s)}")
    if timeout_s is not None and _LONGEST_TIMEOUT_S < timeout_s < math.inf:
        raise UsageError(
            f"the timeout must be a positive number of seconds, {_LONGEST_TIMEOUT_S} at most, not {shown(timeout_s)}"
        )
    for name, switch in (
        ("as_shipped", options.as_shipped),
        ("keep_going", options.keep_going),
        ("journal", options.journal),
        ("pin", options.pin),
        ("virtio_console", options.virtio_console),
        ("rng", options.rng),
        ("testdev", options.testdev),
        ("virtio_legacy", options.virtio_legacy),
        ("gdb_wait", options.gdb_wait),
        ("semihosting", options.semihosting),
        ("exit_status_line", options.exit_status_line),
    ):
        if not isinstance(switch, bool):
            raise UsageError(f"{name} must be True or False, not {shown(switch)}")
