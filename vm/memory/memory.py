# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that the processes of a machine share: anonymous memory files, inherited by descriptor.

They have no name, so nothing can be left behind: the kernel frees them with the last process that holds them,
however it ends. They are sparse: a page costs something once it is written.
"""

from __future__ import annotations

import fcntl
import os

from allstop.vm.boot.images import Image
from allstop.vm.config.limits import RAM_BASE


def create_memory(name: str, size_bytes: int) -> int:
    """A new descriptor of `size_bytes` of zeroed shared memory whose size cannot change. `name` is for /proc only.

    The size is sealed, for a mapping of a file that shrinks dies of SIGBUS. Raises OSError.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def load_image(fd: int, image: Image) -> None:
    """Place the image's segments in guest RAM `fd`; what follows a segment's data is zero already. Raises OSError."""
    for segment in image.segments:
        written = 0
        while written < len(segment.data):
            written += os.pwrite(fd, segment.data[written:], segment.ipa - RAM_BASE + written)
