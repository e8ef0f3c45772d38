# SPDX-License-Identifier: GPL-2.0-or-later
"""The image behind a block device: read-only, written through, or copy-on-write."""

from __future__ import annotations

import errno
import os
import tempfile

from allstop.vm.boot.drive import SECTOR_BYTES, open_drive
from allstop.vm.config.specs import DriveSpec

CLUSTER_BYTES = 4096


class Drive:
    """An open image of `size_bytes`. Reads and writes raise OSError when the host fails them; the caller checks their
    ranges."""

    def __init__(self, spec: DriveSpec) -> None:
        """Raises DriveError."""
        self.path = spec.path
        self._fd, self.size_bytes = open_drive(spec)
        self.sectors = self.size_bytes // SECTOR_BYTES
        self.read_only = spec.mode == "ro"
        self._through = spec.mode == "rw"

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the drive. Raises OSError."""
        return _read_all(self._fd, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Write to the drive. Raises OSError."""
        _write_all(self._fd, offset, data)

    def flush(self) -> None:
        """All writes are on the disk when this returns. Raises OSError."""
        if self._through:
            os.fsync(self._fd)

    def close(self) -> None:
        """Release what is open."""
        os.close(self._fd)


class CopyOnWriteDrive(Drive):
    """Writes go to an unnamed file, which ends with the run; the image stays as it is.

    That file has the drive's layout. `_written` are the clusters to read there.
    """

    def __init__(self, spec: DriveSpec, folder: str | None) -> None:
        """`folder` is where the file without a name takes its room: None is the usual place. Raises DriveError and
        OSError."""
        super().__init__(spec)
        self._overlay = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - `close` closes it
        self._written: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        pieces, end = [], offset + length
        while offset < end:
            written = offset // CLUSTER_BYTES in self._written
            stop = (offset // CLUSTER_BYTES + 1) * CLUSTER_BYTES
            while stop < end and (stop // CLUSTER_BYTES in self._written) == written:
                stop += CLUSTER_BYTES
            stop = min(stop, end)
            pieces.append(_read_all(self._overlay.fileno() if written else self._fd, offset, stop - offset))
            offset = stop
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        for edge in {offset // CLUSTER_BYTES, (end - 1) // CLUSTER_BYTES} - self._written:
            begin = edge * CLUSTER_BYTES
            _write_all(
                self._overlay.fileno(), begin, _read_all(self._fd, begin, min(CLUSTER_BYTES, self.size_bytes - begin))
            )
        _write_all(self._overlay.fileno(), offset, data)
        self._written.update(range(offset // CLUSTER_BYTES, (end - 1) // CLUSTER_BYTES + 1))

    def close(self) -> None:
        super().close()
        self._overlay.close()


def open_any(spec: DriveSpec, folder: str | None) -> Drive:
    """The drive that `spec` asks for. Raises DriveError and OSError."""
    return CopyOnWriteDrive(spec, folder) if spec.mode == "cow" else Drive(spec)


def _read_all(fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, "it has become shorter than it was")
        data += more
    return data


def _write_all(fd: int, offset: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
