# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounds of a machine."""

from __future__ import annotations

RAM_BASE = 0x4000_0000
MEMORY_STEP_BYTES = 2 << 20
"""What one level-2 entry of stage 2 covers: a machine's memory is a multiple of it."""
MAX_MEMORY_BYTES = 0xB000_0000
MAX_VCPUS = 128
MAX_TIME_DILATION = 1000
DRIVE_MODES = ("cow", "ro", "rw")
