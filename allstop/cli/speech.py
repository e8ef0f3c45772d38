# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command says to people (stderr) and to programs (stdout)."""

from __future__ import annotations

import os


def say(sentence: str) -> None:
    """Print one sentence on stderr, as the command; stderr may be closed."""
    try:
        write_all(2, f"allstop: {sentence}\n")
    except OSError:
        return


def write_all(fd: int, text: str) -> None:
    """Write all of `text`, unbuffered, so that nothing can fail at exit. Raises OSError."""
    data = text.encode(errors="replace")
    while data:
        data = data[os.write(fd, data) :]
