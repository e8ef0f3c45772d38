# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's input on its way in: what was typed waits here until a device takes it. Nothing is lost, and no more
than INPUT_WINDOW_BYTES wait, for the launcher sends no more than it has been told were taken.

Of several devices that listen, the one gets it that is known to be opened; where none or several are, the one that
subscribed last. The driver of a virtio console listens from its beginning, whether somebody uses the terminal that it
makes or not; a UART's receive interrupt is enabled by who opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from allstop.vm.wire.messages import INPUT_WINDOW_BYTES


class Receiver(Protocol):
    """A device that takes input."""

    @property
    def listening(self) -> bool:
        """Whether the guest has it in a state in which it could receive."""

    def receive(self, data: bytes) -> int:
        """Take some of `data`, from its begin; how many bytes were taken. The rest is offered again after the guest's
        next access to any device."""


def _unnoticed(what: object) -> None:
    """Nobody needs to know."""


def _untold() -> bool:
    """The device does not know whether anybody has opened it."""
    return False


class InputLine:
    """Bytes for whoever subscribes. `taken(n)` is called with the number of bytes that a device took, `failed(error)`
    with what one raised: then what waits is dropped.

    waiting    what has not been taken yet; offer it again by `pump`
    """

    def __init__(
        self, taken: Callable[[int], None] = _unnoticed, failed: Callable[[BaseException], None] = _unnoticed
    ) -> None:
        self.waiting = bytearray()
        self._taken = taken
        self._failed = failed
        self._receivers: list[tuple[Receiver, Callable[[], bool]]] = []

    def subscribe(self, receiver: Receiver, opened: Callable[[], bool] = _untold) -> None:
        """A device would like the input, if it listens; `opened` tells whether the guest is known to wait for it."""
        self._receivers.insert(0, (receiver, opened))

    def feed(self, data: bytes) -> bool:
        """More was typed. False, and nothing is kept, if it is more than the sender may send."""
        if len(self.waiting) + len(data) > INPUT_WINDOW_BYTES:
            return False
        self.waiting += data
        self.pump()
        return True

    def pump(self) -> None:
        """Offer what waits to the device whose it is."""
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
