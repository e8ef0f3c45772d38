# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's last words: the launcher quotes the end of a process's log in its sentence about a lost process."""

from __future__ import annotations

import os


def say_last_words(sentence: str) -> None:
    """Write one line to standard error, which is the process's log."""
    os.write(2, (sentence.rstrip() + "\n").encode())
