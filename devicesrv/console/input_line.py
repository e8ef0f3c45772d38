# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's input on its way in: it waits here until a device takes it. Nothing is lost, and at most
INPUT_WINDOW_BYTES wait: the launcher sends more only when a device has taken some.

If several devices listen, the one that is known to be opened gets it; if none or several are, the one that subscribed
last. The driver of a virtio console listens from its start, whether or not a program uses its terminal; the program
that opens a UART's terminal enables the receive interrupt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from allstop.vm.wire.messages import INPUT_WINDOW_BYTES


class Receiver(Protocol):
    """A device that takes input."""

    @property
    def listening(self) -> bool:
        """Whether the guest has enabled it to receive."""

    def receive(self, data: bytes) -> int:
        """Take some of `data`, from its start; how many bytes. The rest comes again after the guest's next access
        to any device."""


def _unnoticed(what: object) -> None:
    """The default for `taken`."""


def _untold() -> bool:
    """The default for `opened`: it is not known."""
    return False


class InputLine:
    """Bytes for the devices that subscribe. It calls `taken(n)` with the number of bytes that a device took, and
    `failed(error)` with the exception that one raised; then the waiting bytes are dropped.

    waiting    bytes that no device has taken yet; `pump` offers them again
    """

    def __init__(
        self, taken: Callable[[int], None] = _unnoticed, failed: Callable[[BaseException], None] = _unnoticed
    ) -> None:
        self.waiting = bytearray()
        self._taken = taken
        self._failed = failed
        self._receivers: list[tuple[Receiver, Callable[[], bool]]] = []

    def subscribe(self, receiver: Receiver, opened: Callable[[], bool] = _untold) -> None:
        """Let a device have the input while it listens; `opened` says whether the guest is known to wait for it."""
        self._receivers.insert(0, (receiver, opened))

    def feed(self, data: bytes) -> bool:
        """More was typed. False, and nothing is kept, if it is more than the sender may send."""
        if len(self.waiting) + len(data) > INPUT_WINDOW_BYTES:
            return False
        self.waiting += data
        self.pump()
        return True

    def pump(self) -> None:
        """Offer the waiting bytes to the device that gets them."""
        try:
            self._offer()
        except BaseException as error:
            self.waiting.clear()
            self._failed(error)

    def _offer(self) -> None:
        listening = [(receiver, opened) for receiver, opened in self._receivers if receiver.listening]
        if not listening:
            return
        receiver = next((receiver for receiver, opened in listening if opened()), listening[0][0])
        taken = receiver.receive(bytes(self.waiting))
        if taken:
            del self.waiting[:taken]
            self._taken(taken)
