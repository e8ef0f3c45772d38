# SPDX-License-Identifier: GPL-2.0-or-later
"""The one folder of the host in which a guest may open files.

A name is walked from that folder on, one component at a time, each opened in the one before; ".." and symbolic links
are refused, also those that appear meanwhile. Only regular files are opened: a guest cannot wait on a FIFO, or write
to a device.
"""

from __future__ import annotations

import errno
import os
import stat

_LONGEST_NAME = 4096
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class HostFolder:
    """Files below `path`, or none if it is empty. Every method raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, name: bytes, flags: int) -> int:
        """A descriptor of a regular file."""
        folder, last = self._walk(name)
        try:
            fd = os.open(last, flags & ~os.O_TRUNC | _FILE, 0o666, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise PermissionError(errno.EACCES, "not a regular file")
            if flags & os.O_TRUNC:
                os.ftruncate(fd, 0)
        except OSError:
            os.close(fd)
            raise
        return fd

    def remove(self, name: bytes) -> None:
        """Remove a file."""
        folder, last = self._walk(name)
        try:
            os.unlink(last, dir_fd=folder)
        finally:
            os.close(folder)

    def rename(self, old: bytes, new: bytes) -> None:
        """Give a file another name, which may be in another folder below this one."""
        old_folder, old_last = self._walk(old)
        try:
            new_folder, new_last = self._walk(new)
            try:
                os.rename(old_last, new_last, src_dir_fd=old_folder, dst_dir_fd=new_folder)
            finally:
                os.close(new_folder)
        finally:
            os.close(old_folder)

    def _walk(self, name: bytes) -> tuple[int, bytes]:
        """The folder that the name's last component is in, open, and that component."""
        if not self._path:
            raise PermissionError(errno.EACCES, "the guest was given no folder")
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if name.startswith(b"/") or b".." in parts or b"\0" in name:
            raise PermissionError(errno.EACCES, "the name leads out of the guest's folder")
        if len(name) > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        if not parts or name.endswith(b"/"):
            raise IsADirectoryError(errno.EISDIR, "the name is a folder's")
        folder = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            try:
                inner = os.open(part, _FOLDER, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder, parts[-1]
