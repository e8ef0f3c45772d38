# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command says to people (stderr) and to programs (stdout)."""

from __future__ import annotations

import os


def say(sentence: str) -> None:
    """One sentence on stderr, as the command; nobody may be there to read it."""
    try:
        write_all(2, f"allstop: {sentence}\n")
    except OSError:
        return


def write_all(fd: int, text: str) -> None:
    """Write all of `text`, unbuffered, so that nothing is left to fail at exit. Raises OSError."""
    data = text.encode(errors="replace")
    while data:
        data = data[os.write(fd, data) :]
