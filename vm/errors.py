# SPDX-License-Identifier: GPL-2.0-or-later
"""How a run can fail to be one. Each error's text is one sentence that says what to do, without a traceback."""

from __future__ import annotations


class UsageError(ValueError):
    """What was asked for cannot be done: an option, the image, the run folder. Exit status 2."""


class HarnessError(RuntimeError):
    """The harness, not the guest, failed: no memory, no process, a launcher that died. Exit status 4."""
