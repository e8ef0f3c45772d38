# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the console is, as the user says it: `--console` and `--input`."""

from __future__ import annotations

from dataclasses import dataclass

from allstop.vm.errors import UsageError

STDIO = "stdio"
TTY = "tty"
PTY = "pty"
FILE = "file"
SOCKET = "socket"
PLACES = (STDIO, TTY, PTY, "file:PATH", "socket:PATH")
_WITH_PATH = (FILE, SOCKET)
_MAX_SOCKET_PATH_BYTES = 107  # unix(7): sun_path holds 108, the last of them NUL


@dataclass(frozen=True)
class ConsolePlace:
    """One of PLACES; `path` for those that have one. Construction raises UsageError."""

    kind: str = STDIO
    path: str = ""

    def __post_init__(self) -> None:
        if self.kind not in (STDIO, TTY, PTY, *_WITH_PATH):
            raise UsageError(f"the console can be at {', '.join(PLACES)}, not at {self.kind[:64]!r}")
        if (self.kind in _WITH_PATH) != bool(self.path):
            raise UsageError(
                f"the console {self.kind} {'needs' if self.kind in _WITH_PATH else 'has no'} path: {', '.join(PLACES)}"
            )
        if "\0" in self.path:
            raise UsageError("the console's path holds a NUL character, which no path can")
        if self.kind == SOCKET and len(self.path.encode(errors="surrogateescape")) > _MAX_SOCKET_PATH_BYTES:
            raise UsageError(
                f"the path of a Unix socket has at most {_MAX_SOCKET_PATH_BYTES} bytes, and "
                f"{self.path[:64]}... has more"
            )

    @property
    def takes_input(self) -> bool:
        """Whether a user at the console types there."""
        return self.kind in (TTY, PTY, SOCKET)

    @classmethod
    def parse(cls, text: str) -> ConsolePlace:
        """`--console`'s value. Raises UsageError."""
        if not isinstance(text, str):
            raise UsageError(f"the console's place must be text, one of {', '.join(PLACES)}")
        kind, _, path = text.partition(":")
        return cls(kind, path)

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" if self.path else self.kind
