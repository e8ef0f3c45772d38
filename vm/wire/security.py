# SPDX-License-Identifier: GPL-2.0-or-later
"""Between hosts: CURVE, with keys that the launcher makes for one run, and known clients only.

Every host has one key pair, for all its sockets. A server admits the keys of the run's hosts only; ZeroMQ
authenticates and encrypts each connection, and drops what was recorded and is sent again. Source: RFC 26/CURVE, 27/ZAP.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from typing import NamedTuple

import zmq

_DOMAIN = b"allstop"
_STOP_S = 2.0
_HEARTBEAT_MS = 1000
_HANDSHAKE_MS = 5000
_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_MONITOR_STOPPED
)


class KeyPair(NamedTuple):
    """A host's keys, Z85."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> KeyPair:
        """A new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())


class Guard:
    """Admits the given public keys to the servers of one context. `refused` counts the connections that it refused:
    those with a key of another run, those without a key, and those that do not speak ZeroMQ. `admitted` grows before
    anything that a connection brings can be received."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admitted: Iterable[str]) -> None:
        self._admitted = frozenset(key.encode() for key in admitted)
        self.refused = 0
        self.admitted = 0
        self._watched: list[tuple[zmq.Socket[bytes], threading.Thread]] = []
        import zmq.auth.thread  # asyncio comes with it, 40 ms for each process: only where it is needed

        self._authenticator = zmq.auth.thread.ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(domain=_DOMAIN.decode(), credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether this client may connect; pyzmq calls it."""
        if key not in self._admitted:
            return False
        self.admitted += 1
        return True

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Count what is refused at this socket."""
        monitor = socket.get_monitor_socket(_FAILURES)
        thread = threading.Thread(target=self._count, args=(monitor,), daemon=True)
        thread.start()
        self._watched.append((socket, thread))

    def close(self) -> None:
        """Stop; before the context ends."""
        for socket, thread in self._watched:
            with contextlib.suppress(zmq.ZMQError):  # it may be closed, and its monitor has ended with it
                socket.disable_monitor()
            thread.join(_STOP_S)
        self._watched = []
        self._authenticator.stop()

    def _count(self, monitor: zmq.Socket[bytes]) -> None:
        """Read all the time: a full monitor socket would make the server's own I/O thread wait."""
        from zmq.utils.monitor import recv_monitor_message  # the same

        with contextlib.suppress(zmq.ZMQError):
            while recv_monitor_message(monitor)["event"] != zmq.EVENT_MONITOR_STOPPED:
                self.refused += 1
        monitor.close(0)


class Breaks:
    """Whether a connection of ours was broken. ZeroMQ makes a new one, and messages that were on their way are lost: a
    process that never sends them again has to know."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket = socket
        self._since_s: float | None = None

    def broken_s(self, now_s: float) -> float:
        """For how long it has been known; 0 for one that was never broken."""
        if self._since_s is None and self._monitor.poll(0):
            self._since_s = now_s
        return 0.0 if self._since_s is None else now_s - self._since_s

    def close(self) -> None:
        """Before the socket is closed."""
        self._socket.disable_monitor()
        self._monitor.close(0)


def open_to_hosts(socket: zmq.Socket[bytes], endpoint: str, fd: int, keys: KeyPair, silence_s: float) -> None:
    """Have a server's socket listen on TCP, too, under `keys`: on `fd`, which is bound to the address and listens.

    A connection is given up when nothing has come for `silence_s`. What is bound or connected before keeps its own
    security. Needs a Guard in the context. Raises zmq.ZMQError."""
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, max(5 * _HEARTBEAT_MS, int(silence_s * 1000)))
    _choose_family(socket, endpoint)
    socket.setsockopt(zmq.USE_FD, fd)
    socket.bind(endpoint)


def secure(socket: zmq.Socket[bytes], keys: KeyPair, server: str, endpoint: str) -> None:
    """Have a socket that is about to connect to `endpoint` use `keys`, and only speak to the server with this public
    key."""
    _choose_family(socket, endpoint)
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, server)


def _choose_family(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """ZeroMQ takes an IPv6 address only where it is told so, and then turns an IPv4 address into one."""
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))


def key_of(frame: zmq.Frame) -> str:
    """The public key of the connection that brought this frame, "" where it has none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
