# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's kernel may be given beside its image, as asked for: an initial RAM disk, a command line, a tree."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allstop.vm.boot.boot import Startup, prepare
from allstop.vm.boot.device_tree import RunFacts, adapt
from allstop.vm.boot.images import Image, ImageError
from allstop.vm.boot.tree_blob import MAX_TREE_BYTES
from allstop.vm.errors import UsageError

LINUX_COMMAND_LINE_BYTES = 1024
"""COMMAND_LINE_SIZE of 32-bit ARM Linux, which cuts off silently what is longer (the terminating zero counts)."""


@dataclass(frozen=True)
class BootOptions:
    """Paths to an initial RAM disk and to a device tree, None where there is none; the kernel's command line."""

    initrd: Path | None = None
    append: str = ""
    dtb: Path | None = None

    def startup(self, path: Path, image: Image, facts: RunFacts) -> Startup:
        """`image`, which was read from `path`, with all of this beside it. Raises UsageError."""
        if image.kind == "zimage" and len(self.append) >= LINUX_COMMAND_LINE_BYTES:
            raise UsageError(
                f"the command line has {len(self.append)} characters: a kernel for 32-bit ARM takes "
                f"{LINUX_COMMAND_LINE_BYTES - 1}"
            )
        initrd = b"" if self.initrd is None else _read("initial RAM disk", self.initrd, facts.memory_bytes)
        if self.initrd is not None and not initrd:
            raise UsageError(f"the initial RAM disk {self.initrd} is empty")
        tree = None
        if self.dtb is not None:
            tree = _read("device tree", self.dtb, MAX_TREE_BYTES)
            try:
                adapt(tree, facts)
            except ImageError as error:
                raise UsageError(f"the device tree {self.dtb} {error}") from None
        try:
            return prepare(image, facts, initrd, tree)
        except ImageError as error:
            raise UsageError(f"the image {path} {error}") from None

    def record(self, startup: Startup) -> dict[str, Any]:
        """What run.json says about it; places are guest-physical, `initrd_place` [start, end)."""
        return {
            "image_kind": startup.image.kind,
            "entry": startup.image.entry,
            "append": self.append,
            "initrd": None if self.initrd is None else str(self.initrd.absolute()),
            "dtb": None if self.dtb is None else str(self.dtb.absolute()),
            "initrd_place": startup.initrd,
            "tree_ipa": startup.r2,
            "tree_bytes": startup.tree_bytes,
        }


def _read(what: str, path: Path, most_bytes: int) -> bytes:
    """A file of `most_bytes` at most. Raises UsageError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"the {what} {path} is not a regular file")
        if status.st_size > most_bytes:
            raise UsageError(f"the {what} {path} has {status.st_size} bytes: {most_bytes} would be the most")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the {what} {path} cannot be read: {error.strerror}") from None
