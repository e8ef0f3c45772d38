# SPDX-License-Identifier: GPL-2.0-or-later
"""The errors of a run that gives no verdict. Each text is one sentence that says what to do, without a traceback."""

from __future__ import annotations


class UsageError(ValueError):
    """The request cannot be met: an option, the image or the run folder is wrong. Exit status 2."""


class HarnessError(RuntimeError):
    """The harness, not the guest, failed: no memory, no process, a launcher that died. Exit status 4."""
