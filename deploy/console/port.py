# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's console as the launcher's loop sees it: the device server on one side, the user on the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from allstop.deploy.console.end import ConsoleEnd
from allstop.deploy.console.feed import ConsoleFeed
from allstop.deploy.console.relay import ConsoleRelay
from allstop.vm.config.machine import MachineConfig

# How long, at the end, output waits for a reader that may not exist.
LAST_READ_S = 0.5
_LOOK_S = 0.01


class ConsolePort:
    """One turn of the loop is `register`, poll, `serve`. `has_input`: whether input may ever come."""

    def __init__(self, relay: ConsoleRelay, end: ConsoleEnd, has_input: bool) -> None:
        self.relay = relay
        self.end = end
        self._feed = ConsoleFeed() if has_input else None
        self._polled: dict[Any, int] = {}

    @property
    def left(self) -> str:
        """Why the user at the console ends the run; "" until then."""
        return self.end.left

    @property
    def is_quiet(self) -> bool:
        """Whether the launcher may write a line of its own to the console's terminal."""
        return not self.end.on_terminal or self.relay.at_line_start and not self.relay.pending

    @property
    def notes(self) -> list[str]:
        """What was lost, in sentences for the verdict."""
        notes = []
        if self.relay.dropped_bytes:
            notes.append(f"{self.relay.dropped_bytes} bytes of the console were dropped, because they were not read")
        if self.relay.failure and not self.end.on_terminal:
            notes.append(f"the console could not be written to its end: {self.relay.failure}")
        if self._feed is not None and self._feed.dropped_bytes:
            notes.append(f"{self._feed.dropped_bytes} bytes of input were dropped, because the guest did not read them")
        return notes

    def open(self, context: zmq.Context[zmq.Socket[bytes]], config: MachineConfig) -> None:
        """The machine is about to start."""
        if self._feed is not None:
            self._feed.open(context, config)

    def close(self) -> None:
        """The machine has ended: no more input."""
        if self._feed is not None:
            self._feed.close()

    def register(self, poller: zmq.Poller) -> None:
        """Have the poller wait for what can happen now."""
        wanted = self._wanted()
        if wanted == self._polled:
            return
        for place in self._polled:
            if place not in wanted:
                poller.unregister(place)
        for place, flags in wanted.items():
            poller.register(place, flags)
        self._polled = wanted

    def serve(self, ready: Mapping[Any, int]) -> None:
        """Read and write what poll says is ready."""
        end, feed = self.end, self._feed
        if self.relay.source_fd in ready:
            self.relay.read()
        if end.listen_fd in ready:
            end.accept()
        if feed is not None:
            if feed.socket in ready:
                feed.receive()
            happened = ready.get(end.in_fd, 0) if end.in_fd >= 0 else ready.get(end.out_fd, 0)
            if happened & zmq.POLLERR:
                feed.add(end.hang_up())
            elif happened & zmq.POLLIN and end.in_fd >= 0:
                feed.add(end.read())
        self.write()

    def write(self) -> None:
        """Pass on as much output as the user's end accepts now."""
        self.relay.out_fd = self.end.out_fd
        self.relay.write()

    def finish(self, wait: Callable[[int], bool]) -> None:
        """Pass on the rest, as far as it is read; `wait` as for `ConsoleRelay.finish`."""
        self.write()
        if self.end.on_terminal:
            self.relay.finish(wait)
            return
        deadline_s = time.monotonic() + LAST_READ_S
        self.relay.finish(lambda fd: self._wait_briefly(fd, deadline_s))
        while self.end.unread_bytes() and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)  # the reader's side cannot be polled from here
        self.relay.drop_rest(self.end.unread_bytes())

    def _wait_briefly(self, fd: int, deadline_s: float) -> bool:
        poller = zmq.Poller()
        poller.register(fd, zmq.POLLOUT)
        return bool(poller.poll(max(0, int((deadline_s - time.monotonic()) * 1000))))

    def _wanted(self) -> dict[Any, int]:
        end, feed = self.end, self._feed
        self.relay.out_fd = end.out_fd
        wanted: dict[Any, int] = {self.relay.source_fd: zmq.POLLIN}
        if end.listen_fd >= 0:
            wanted[end.listen_fd] = zmq.POLLIN
        if self.relay.pending:
            wanted[end.out_fd] = zmq.POLLOUT
        if feed is None:
            return wanted
        if feed.socket is not None:
            wanted[feed.socket] = zmq.POLLIN
        if end.in_fd >= 0 and (end.reads_ahead or feed.is_idle):
            wanted[end.in_fd] = wanted.get(end.in_fd, 0) | zmq.POLLIN
        elif end.returns and end.out_fd >= 0:
            wanted[end.out_fd] = wanted.get(end.out_fd, 0) | zmq.POLLERR  # to notice that the client goes
        return wanted
