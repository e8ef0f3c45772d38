# SPDX-License-Identifier: GPL-2.0-or-later
"""Random accesses from several hosts: each word has one history, and no vCPU sees it go back.

The guest judges (guests/history). Seen red: after a revocation that flushes no vCPU, arrivals at its barrier are lost.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(("count", "vcpus", "seed"), [(2, 2, 1), (2, 4, 2), (3, 3, 3), (4, 4, 4)])
def test_every_word_has_one_history(hosts: Any, guests: Path, count: int, vcpus: int, seed: int) -> None:
    done = hosts.run(
        guests / "history.elf",
        "--vcpus",
        vcpus,
        "--parameter",
        3000 << 8 | seed,
        "--timeout",
        60,
        hosts=hosts.file(count),
    )
    assert done.status == 0, done.console + done.err
    found = re.search(r"reads=(\d+) writes=(\d+) back=0 twice=0 missing=0 causal=0", done.console)
    assert found and min(map(int, found.groups())) > 1000 * vcpus
    assert done.verdict["pages"]["count"] > 50  # they did fight for these pages
