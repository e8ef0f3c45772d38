# SPDX-License-Identifier: GPL-2.0-or-later
"""The block device. Source: virtio 1.2 (OASIS), 5.2.

Requests are done one after the other, before the notification is over. Where the host fails one, the guest reads
VIRTIO_BLK_S_IOERR, and the verdict gets one note for the drive.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from allstop.devicesrv.virtio.drive import Drive
from allstop.devicesrv.virtio.function import Function
from allstop.devicesrv.virtio.queue import Chain, QueueBrokenError, gather, scatter
from allstop.vm.boot.drive import SECTOR_BYTES

F_SEG_MAX = 1 << 2
F_RO = 1 << 5
F_BLK_SIZE = 1 << 6
F_FLUSH = 1 << 9

T_IN, T_OUT, T_FLUSH, T_GET_ID = 0, 1, 4, 8
S_OK, S_IOERR, S_UNSUPP = 0, 1, 2

QUEUE_SIZE = 128
SEGMENTS = QUEUE_SIZE - 2  # of data in a request: the header and the status take a descriptor each
ID_BYTES = 20
LONGEST_REQUEST_BYTES = 32 << 20  # the server does nothing else meanwhile
PIECE_BYTES = 1 << 16
_HEADER = struct.Struct("<IIQ")
_CONFIGURATION = struct.Struct("<QIIHBBI")  # capacity, size_max, seg_max, geometry (3 fields), blk_size


class Block(Function):
    """A disk. It calls `note(sentence)` when the host fails it. The guest reads `name` as its serial number."""

    device_id = 2
    queue_sizes = (QUEUE_SIZE,)

    def __init__(self, drive: Drive, name: str, note: Callable[[str], None]) -> None:
        super().__init__()
        self._drive = drive
        self._name = name.encode()[:ID_BYTES].ljust(ID_BYTES, b"\0")
        self._note = note
        self._noted = False
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (F_RO if drive.read_only else 0)

    def configuration(self) -> bytes:
        return _CONFIGURATION.pack(self._drive.sectors, 0, SEGMENTS, 0, 0, 0, SECTOR_BYTES)

    def notified(self, index: int) -> None:
        queue = self.port.queue(index)
        while (chain := queue.pop()) is not None:
            room = chain.writable_bytes
            if chain.readable_bytes < _HEADER.size or room < 1:
                raise QueueBrokenError("a request has no header, or no room for its status")
            kind, _, sector = _HEADER.unpack(gather(self.port.memory, chain.readable, 0, _HEADER.size))
            try:
                status = self._perform(kind, sector, chain)
            except OSError as error:
                status = S_IOERR
                self._failed(error)
            scatter(self.port.memory, chain.writable, room - 1, bytes((status,)))
            queue.push(chain, room)
        self.port.signal(queue)

    def _perform(self, kind: int, sector: int, chain: Chain) -> int:
        """Perform one request; its status. Raises OSError, AccessError."""
        if kind == T_IN:
            return self._transfer(
                sector,
                chain.writable_bytes - 1,
                lambda done, piece: scatter(
                    self.port.memory, chain.writable, done, self._drive.read(sector * SECTOR_BYTES + done, piece)
                ),
            )
        if kind == T_OUT:
            if self._drive.read_only:
                return S_IOERR
            return self._transfer(
                sector,
                chain.readable_bytes - _HEADER.size,
                lambda done, piece: self._drive.write(
                    sector * SECTOR_BYTES + done, gather(self.port.memory, chain.readable, _HEADER.size + done, piece)
                ),
            )
        if kind == T_FLUSH:
            self._drive.flush()
            return S_OK
        if kind == T_GET_ID:
            scatter(self.port.memory, chain.writable, 0, self._name[: chain.writable_bytes - 1])
            return S_OK
        return S_UNSUPP

    def _transfer(self, sector: int, length: int, move: Callable[[int, int], None]) -> int:
        """Move `length` bytes by pieces: `move(offset, bytes)`. Raises what that raises."""
        if (
            length % SECTOR_BYTES
            or length > LONGEST_REQUEST_BYTES
            or (sector + length // SECTOR_BYTES > self._drive.sectors)
        ):
            return S_IOERR
        for done in range(0, length, PIECE_BYTES):
            move(done, min(PIECE_BYTES, length - done))
        return S_OK

    def _failed(self, error: OSError) -> None:
        if not self._noted:
            self._noted = True
            self._note(f"the drive's image {self._drive.path} failed the guest (VIRTIO_BLK_S_IOERR): {error.strerror}")
