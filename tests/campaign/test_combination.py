# SPDX-License-Identifier: GPL-2.0-or-later
"""A run keeps its name when options are added: stores of earlier versions are resumed."""

from __future__ import annotations

import json
from dataclasses import replace

from allstop.campaign.combination import ADDED, Combination

# As the first version wrote it, and what it called it.
FIRST = json.dumps(
    {
        "guest": "hello",
        "scenario": "none",
        "files": {"image": "ab" * 32},
        "options": {"vcpus": 2, "memory": 67108864, "append": ""},
        "repetition": 1,
        "timeout_s": 5.0,
    }
)
IDENTITY = "98e232903d46d1775b83441946ecd74b"


def test_a_run_of_an_earlier_version_is_the_same_run() -> None:
    found = Combination.from_json(FIRST)
    assert found.identity == IDENTITY
    assert found.options == {"vcpus": 2, "memory": 67108864, "append": "", **ADDED}
    assert Combination.from_json(found.to_json()) == found
    assert found.describe() == "hello vcpus=2 memory=64M repetition=1"


def test_an_added_option_that_is_used_makes_another_run() -> None:
    found = Combination.from_json(FIRST)
    other = replace(found, options=found.options | {"time_dilation": 10})
    assert other.identity != IDENTITY
    assert other.describe() == "hello vcpus=2 memory=64M time_dilation=10 repetition=1"
