# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user names with several parts in one word: a device, a drive, a function."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceSpec:
    """A user's own device: `FILE.py:Class@ADDRESS`."""

    path: str
    class_name: str
    ipa: int

    def __str__(self) -> str:
        return f"{self.path}:{self.class_name}@{self.ipa:#x}"


@dataclass(frozen=True)
class DriveSpec:
    """A drive: its image, and one of DRIVE_MODES."""

    path: str
    mode: str = "cow"

    def __str__(self) -> str:
        return f"{self.path},{self.mode}"


@dataclass(frozen=True)
class HandlerSpec:
    """A user's own function: `FILE.py:function`."""

    path: str
    function_name: str

    def __str__(self) -> str:
        return f"{self.path}:{self.function_name}"
