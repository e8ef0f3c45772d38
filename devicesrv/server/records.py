# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices' records in the run's folder: `marks.jsonl`, `accesses.jsonl` and what a user's device may
add."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from io import TextIOWrapper

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Records:
    """JSON lines by file name, each with `t_ns`, the monotonic time. Without a folder they go nowhere."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._files: dict[str, TextIOWrapper] = {}

    def write(self, name: str, fields: Mapping[str, object]) -> None:
        """Append a line to `name`.jsonl. It is in the file after the next `flush`. Raises ValueError for a
        name that is more than letters, digits, - and _, and TypeError for fields that JSON cannot hold."""
        if not self._run_dir:
            return
        line = json.dumps({"t_ns": time.monotonic_ns(), **fields})
        file = self._files.get(name)
        if file is None:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a file of records")
            file = open(os.path.join(self._run_dir, f"{name}.jsonl"), "w", encoding="utf-8")  # noqa: SIM115
            self._files[name] = file
        file.write(line + "\n")

    def flush(self) -> None:
        """Hand everything to the kernel. Raises OSError."""
        for file in self._files.values():
            file.flush()

    def abandon(self) -> None:
        """Keep no more records: the folder takes none."""
        self._run_dir = ""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
        self._files.clear()
