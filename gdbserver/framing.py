# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets of the gdb remote protocol to bytes and back, no I/O. Source: GDB manual, appendix E.1.

    $PAYLOAD#CC      a packet; CC is the sum of PAYLOAD's bytes in hexadecimal; } escapes: the next byte ^ 0x20
    + -              the last packet was good, or has to be sent again
    0x03             Ctrl-C

Other bytes are dropped: nothing that a client can send raises, or makes this keep more than a packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MAX_PACKET_BYTES = 0x4000
_START, _END, _ESCAPE, _CTRL_C = b"$"[0], b"#"[0], b"}"[0], 3
_ACK, _NAK = b"+", b"-"
_SPECIAL = b"$#}*"


@dataclass(frozen=True, slots=True)
class Packet:
    """A complete packet."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to send."""

    data: bytes


Received: TypeAlias = Packet | Interrupt | Write


class Framing:
    """One connection's framing. `acknowledges` ends with QStartNoAckMode."""

    def __init__(self) -> None:
        self.acknowledges = True
        self._packet: bytearray | None = None  # from $ on
        self._sum_digits = 0  # of those after #, how many have come
        self._too_long = False
        self._last = b""

    def receive(self, data: bytes) -> list[Received]:
        """Take bytes from the client; the packets and signals in them, in order."""
        found: list[Received] = []
        for byte in data:
            if self._packet is None:
                self._between(byte, found)
            else:
                self._within(byte, self._packet, found)
        return found

    def encode(self, payload: bytes) -> bytes:
        """Frame a packet for the client, and keep it: the client may ask for it again."""
        escaped = bytearray()
        for byte in payload:
            escaped += bytes((_ESCAPE, byte ^ 0x20)) if byte in _SPECIAL else bytes((byte,))
        self._last = b"$%b#%02x" % (bytes(escaped), sum(escaped) & 0xFF)
        return self._last

    def _between(self, byte: int, found: list[Received]) -> None:
        if byte == _START:
            self._begin()
        elif byte == _CTRL_C:
            found.append(Interrupt())
        elif byte == _NAK[0] and self.acknowledges and self._last:
            found.append(Write(self._last))

    def _within(self, byte: int, packet: bytearray, found: list[Received]) -> None:
        if self._sum_digits == 0 and byte == _START:
            self._begin()  # the one before was cut off
            return
        if len(packet) < MAX_PACKET_BYTES + 3:
            packet.append(byte)
        else:
            self._too_long = True
        if self._sum_digits:
            self._sum_digits += 1
        elif byte == _END:
            self._sum_digits = 1
        if self._sum_digits == 3:
            self._packet = None
            found += self._finish(bytes(packet))

    def _begin(self) -> None:
        self._packet, self._sum_digits, self._too_long = bytearray(), 0, False

    def _finish(self, packet: bytes) -> list[Received]:
        body, digits = packet[:-3], packet[-2:]
        try:
            good = not self._too_long and int(digits.decode("ascii"), 16) == sum(body) & 0xFF
        except ValueError:
            good = False
        if not good and self.acknowledges:
            return [] if self._too_long else [Write(_NAK)]
        if not good:
            return []
        answer: list[Received] = [Write(_ACK)] if self.acknowledges else []
        return [*answer, Packet(_unescape(body))]


def _unescape(body: bytes) -> bytes:
    plain = bytearray()
    bytes_left = iter(body)
    for byte in bytes_left:
        plain.append(next(bytes_left, 0) ^ 0x20 if byte == _ESCAPE else byte)
    return bytes(plain)
