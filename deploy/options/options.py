# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user may ask of a run, checked: the command line and the Python API share it word for word."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from allstop.deploy.hosts.cluster import cluster_hosts
from allstop.deploy.hosts.hosts_file import HostsFile, place_vcpus, read_hosts
from allstop.deploy.options.boot_options import BootOptions
from allstop.deploy.options.console_place import FILE, PLACES, STDIO, ConsolePlace
from allstop.deploy.options.gdb_address import GdbAddress
from allstop.deploy.options.kinds import Console, Events, Gdb
from allstop.deploy.options.user_device import check_device
from allstop.deploy.processes.processes import child_environment, describe_exit
from allstop.vm.boot.boot import Startup
from allstop.vm.boot.bundled import resolve
from allstop.vm.boot.device_tree import RunFacts
from allstop.vm.boot.drive import DriveError, open_drive
from allstop.vm.boot.images import RAW_LOAD_IPA, Image, ImageError, check_range, is_elf, parse_elf, parse_raw, symbols
from allstop.vm.boot.linux_image import HEAD_BYTES, ZIMAGE_LOAD_IPA, foreign_kind, is_zimage, parse_zimage
from allstop.vm.config.kinds import WORD_MAX, AnyPath, Kind, Seconds, Switch, Whole
from allstop.vm.config.limits import MAX_VCPUS
from allstop.vm.config.options import GuestOptions, check, option
from allstop.vm.config.paths import path_of
from allstop.vm.config.specs import DriveSpec
from allstop.vm.errors import UsageError
from allstop.vm.events.scenario import Scenario, ScenarioError

RAW_SUFFIXES = (".bin", ".img", ".raw", ".flat")
_HANDLER_LOADS_S = 30.0
_MAX_IMAGE_BYTES = 1 << 32


@dataclass(frozen=True)
class RunOptions(GuestOptions):
    """One run, as asked for: the image, the options that the machine's processes are told, and the launcher's own.

    Construction raises UsageError where a value cannot be right. A new option is a row here, or in GuestOptions where
    the processes have to know it.
    """

    image: Path
    _: KW_ONLY
    timeout_s: float | None = option(
        None,
        Seconds(),
        "timeout",
        "end the run after S seconds, counted from the guest's first instruction",
        "S",
        word="timeout",
    )
    run_dir: Path | None = option(
        None,
        AnyPath(),
        "run folder",
        "keep logs, console and verdict.json in DIR, which must be empty or not exist",
        "DIR",
    )
    load_ipa: int | None = option(
        None,
        Whole(0, WORD_MAX, hexadecimal=True),
        "load address",
        "take IMAGE as a raw image and place it at ADDRESS",
        "ADDRESS",
        word="load",
    )
    initrd: Path | None = option(
        None, AnyPath(), "initial RAM disk", "an initial RAM disk for the guest's kernel", "FILE"
    )
    dtb: Path | None = option(
        None,
        AnyPath(),
        "device tree",
        "give the guest this device tree, with its memory, command line and initial RAM disk set",
        "FILE",
    )
    events: Scenario = option(
        Scenario(), Events(), "scenario", "inject the events of this scenario: docs/events.md", "FILE.toml"
    )
    console: ConsolePlace = option(
        ConsolePlace(), Console(), "console", f"where the guest's console is: {', '.join(PLACES)}", "PLACE"
    )
    input: Path | None = option(
        None, AnyPath(), "input", "type what FILE holds on the console; - is standard input", "FILE"
    )
    gdb: GdbAddress | None = option(
        None,
        Gdb(),
        "gdb address",
        "serve a debugger there; the host is 127.0.0.1 unless given, port 0 takes a free one and says which",
        "[HOST]:PORT",
    )
    gdb_wait: bool = option(
        False,
        Switch(),
        "gdb_wait",
        "wait for a debugger before the guest's first instruction; the timeout goes on",
        needs="gdb",
    )
    semihosting: bool = option(
        False, Switch(), "semihosting", "take the guest's semihosting calls: docs/semihosting.md", axis=True
    )
    semihosting_dir: Path | None = option(
        None,
        AnyPath(),
        "folder for semihosting",
        "the one folder in which the guest may open files",
        "DIR",
        needs="semihosting",
    )
    hosts: Path | None = option(
        None,
        AnyPath(),
        "hosts file",
        "spread the vCPUs over the hosts in this file: docs/hosts.md",
        "FILE.toml",
        excludes="cluster",
    )
    cluster: str | None = option(
        None,
        Kind(),
        "cluster",
        "spread the vCPUs over this host and the workers of a Dask cluster, as tcp://HOST:8786",
        "SCHEDULER",
    )
    cluster_hosts: int | None = option(
        None,
        Whole(1, MAX_VCPUS),
        "number of hosts",
        "take N hosts of the cluster, this one included",
        "N",
        needs="cluster",
    )

    def __post_init__(self) -> None:
        path_of("image", self.image)
        object.__setattr__(self, "image", resolve(self.image))
        check(self)
        if self.semihosting_dir is not None and not self.semihosting_dir.is_dir():
            raise UsageError(f"the folder for semihosting, {self.semihosting_dir}, is no folder")
        if self.cluster is None:
            self.hosts_file()
        for event in self.events.events:
            for name, vcpu in (("vcpu", event.vcpu), ("target", event.target)):
                if isinstance(vcpu, int) and vcpu >= self.vcpus:
                    raise UsageError(
                        f"event {event.name}: {name} is {vcpu}, the machine has vCPUs 0 to {self.vcpus - 1}"
                    )
        if (self.fetch == "user") != (self.fetch_handler is not None):
            raise UsageError(
                "--fetch user and --fetch-handler FILE.py:FUNCTION require each other: give both or neither"
            )
        if self.input is not None and self.console.kind not in (STDIO, FILE):
            raise UsageError(f"input comes from where the console is, {self.console}, or from a file, not from both")
        for place, device in enumerate(self.devices):
            check_device(device, self.memory_bytes, self.devices[:place])
        for drive in self.drives:
            _check_drive(drive)

    @property
    def boot(self) -> BootOptions:
        """What the guest's kernel is given beside its image."""
        return BootOptions(self.initrd, self.append, self.dtb)

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
        a load address or its name says that it is one: a user who names the wrong file should learn that, not run it.
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


def _check_drive(spec: DriveSpec) -> None:
    """Raise UsageError unless the drive's image can be used now; the device server opens it for good."""
    try:
        os.close(open_drive(spec)[0])
    except DriveError as error:
        raise UsageError(str(error)) from None
