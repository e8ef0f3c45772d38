# SPDX-License-Identifier: GPL-2.0-or-later
"""Open the image of a drive, and check that it can be used."""

from __future__ import annotations

import os
import stat

from allstop.vm.config.specs import DriveSpec

SECTOR_BYTES = 512


class DriveError(ValueError):
    """The image cannot be used; the text is one sentence that says why."""


def open_drive(spec: DriveSpec) -> tuple[int, int]:
    """A descriptor of the image, and its bytes. Raises DriveError."""
    flags = os.O_RDWR if spec.mode == "rw" else os.O_RDONLY
    try:
        fd = os.open(spec.path, flags | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make us wait
    except OSError as error:
        raise DriveError(f"the drive's image {spec.path} cannot be opened: {error.strerror}") from None
    try:
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
            raise DriveError(f"the drive's image {spec.path} is neither a regular file nor a block device")
        size_bytes = os.lseek(fd, 0, os.SEEK_END)
        if not size_bytes or size_bytes % SECTOR_BYTES:
            raise DriveError(
                f"the drive's image {spec.path} has {size_bytes} bytes: it must be a multiple of "
                f"{SECTOR_BYTES}, and not empty"
            )
    except OSError as error:
        os.close(fd)
        raise DriveError(f"the drive's image {spec.path} cannot be used: {error.strerror}") from None
    except DriveError:
        os.close(fd)
        raise
    return fd, size_bytes
