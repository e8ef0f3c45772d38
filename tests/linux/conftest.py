# SPDX-License-Identifier: GPL-2.0-or-later
"""A distribution's kernel with a shell, where the user names one:

    ALLSTOP_KERNEL     the kernel, a zImage
    ALLSTOP_BUSYBOX    a static busybox for the guest
    ALLSTOP_MODULES    the kernel's modules, lib/modules/VERSION; without, what needs them is skipped

docs/linux.md says where to get them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import pytest

from allstop.machine import Machine
from bench.distribution import archive

BOOT_S = 120.0
COMMAND_S = 60.0
TIMEOUT_S = 300.0
READY = "test: ready"
_INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /tmp /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for module in /*.ko; do [ -e $module ] && insmod $module; done
stty -echo
echo 1 > /proc/sys/kernel/printk
echo '{READY}'
while read -r line; do eval "$line"; echo "test: status $?"; done
"""
# In the order in which they are loaded.
_MODULES = (
    "drivers/virtio/virtio_mmio",
    "drivers/block/virtio_blk",
    "drivers/char/virtio_console",
    "drivers/char/hw_random/virtio-rng",
    "lib/crc16",
    "fs/mbcache",
    "crypto/crc32c_generic",
    "fs/jbd2/jbd2",
    "fs/ext4/ext4",
)


class Linux(AbstractContextManager["Linux"]):
    """A kernel whose init executes lines."""

    def __init__(self, kernel: Path, initrd: Path, **named: Any) -> None:
        named.setdefault("append", "console=ttyAMA0 panic=-1")
        named.setdefault("timeout", TIMEOUT_S)
        self.machine = Machine(kernel, memory="256M", initrd=initrd, input="-", **named)
        self._seen = 0

    def __enter__(self) -> Self:
        self.machine.__enter__()
        try:
            self._until(READY, BOOT_S)
        except BaseException as error:
            self.machine.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, *story: Any) -> None:
        self.machine.__exit__(*story)

    def __call__(self, line: str, timeout_s: float = COMMAND_S) -> str:
        """What a line prints; a status other than 0 fails the test."""
        status, text = self.attempt(line, timeout_s)
        assert status == 0, (line, status, text)
        return text

    def attempt(self, line: str, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """The status and the output of a line."""
        self.machine.send(line + "\n")
        before, found = self._until(r"test: status (\d+)\n", timeout_s)
        return int(found[1]), before

    def power_off(self) -> Any:
        """Switch it off, and have the verdict."""
        self.machine.send("poweroff -f\n")
        return self.machine.wait(COMMAND_S)

    def _until(self, pattern: str, timeout_s: float) -> tuple[str, re.Match[str]]:
        """What the console says up to `pattern`, and that."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.machine.verdict
            text = self.machine.console.replace("\r", "")
            found = re.compile(pattern).search(text, self._seen)
            if found is not None:
                before, self._seen = text[self._seen : found.start()], found.end()
                return before, found
            if ended is not None or time.monotonic() > deadline:
                sentence = f"after {timeout_s:g} s" if ended is None else f"and the run is over: {ended.sentence}"
                raise AssertionError(f"no {pattern!r} {sentence}\n{text[-2000:]}")
            time.sleep(0.01)


def _named(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} names none: see docs/linux.md")
    return Path(value)


@pytest.fixture(scope="session")
def kernel() -> Path:
    return _named("ALLSTOP_KERNEL")


@pytest.fixture(scope="session")
def busybox() -> bytes:
    return _named("ALLSTOP_BUSYBOX").read_bytes()


@pytest.fixture(scope="session")
def initrd(busybox: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "plain"
    path.write_bytes(archive(busybox, _INIT))
    return path


@pytest.fixture(scope="session")
def initrd_with_modules(busybox: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With drivers for virtio, and ext4."""
    folder = _named("ALLSTOP_MODULES") / "kernel"
    path = tmp_path_factory.mktemp("initrd") / "modules"
    path.write_bytes(
        archive(
            busybox, _INIT, {f"{place}.ko": (folder / f"{name}.ko").read_bytes() for place, name in enumerate(_MODULES)}
        )
    )
    return path


@pytest.fixture
def linux(kernel: Path, initrd: Path) -> Callable[..., Linux]:
    """A kernel to be booted, in a with statement; the arguments are Machine's."""
    return lambda **named: Linux(kernel, initrd, **named)


@pytest.fixture
def linux_with_modules(kernel: Path, initrd_with_modules: Path) -> Callable[..., Linux]:
    return lambda **named: Linux(kernel, initrd_with_modules, **named)
