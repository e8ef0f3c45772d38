# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance gate and the race with the vCPUs on different hosts."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_the_gate_holds_between_hosts(hosts: Any) -> None:
    done = hosts.finish(
        hosts.start("conformance", "--json", "--runs", 400, "--timeout", 100, "--hosts", hosts.file(2)),
        deadline_s=240.0,
    )
    assert done.status == 0, done.verdict or done.err
    assert {row["check"]: row["holds"] for row in done.verdict["checks"]} == dict.fromkeys(
        ("atomics", "SB", "MP", "TLBI", "code"), True
    )
    assert all(row["cases"] > 0 for row in done.verdict["checks"])


def test_what_is_shipped_is_for_one_host(hosts: Any) -> None:
    done = hosts.finish(hosts.start("conformance", "--as-shipped", "--hosts", hosts.file(2)))
    assert done.status == 2 and "--as-shipped needs one host" in done.err


@pytest.mark.parametrize("vcpus", [2, 4])
def test_sound_policies_are_right_between_hosts(hosts: Any, vcpus: int) -> None:
    """The victim fetches on one host, another takes its page away."""
    done = hosts.finish(
        hosts.start(
            "race",
            "--json",
            "--vcpus",
            vcpus,
            "--parameter",
            50,
            "--fetch",
            "stop-world,validate",
            "--hosts",
            hosts.file(vcpus),
        ),
        deadline_s=240.0,
    )
    assert done.status == 0, json.dumps(done.verdict) + done.err
    assert all(row["fetches"] and not row["wrong"] and not row["failures"] for row in done.verdict["rows"])
