# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared memory: sizes are read strictly, memory costs what is touched, cannot shrink, and has no name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.boot.images import Image, Segment
from allstop.vm.config.kinds import memory_size
from allstop.vm.config.limits import MAX_MEMORY_BYTES, RAM_BASE
from allstop.vm.memory.memory import create_memory, load_image


@pytest.fixture
def gigabyte() -> Iterator[int]:
    fd = create_memory("test-ram", 1 << 30)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64M", 64 << 20),
        ("1G", 1 << 30),
        ("2048k", 2 << 20),
        ("4194304", 4 << 20),
        ("64MiB", 64 << 20),
        ("64mb", 64 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "64X", "-1M", "1.5G", "0", "0M", "64MM", "0x1000", "١M", "4097", "3M", "3G", "1K", "99999999999G"]
)
def test_what_is_no_size_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        memory_size(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=12))
def test_a_size_is_a_number_of_steps_or_an_error(text: str) -> None:
    try:
        size = memory_size(text)
    except ValueError:
        return
    assert 2 << 20 <= size <= MAX_MEMORY_BYTES and size % (2 << 20) == 0


def test_a_gigabyte_costs_only_what_is_touched(gigabyte: int) -> None:
    assert os.fstat(gigabyte).st_blocks == 0
    data = memoryview(b"\xff" * 5000)
    load_image(gigabyte, Image("raw", RAM_BASE, (Segment(RAM_BASE + (1 << 29), data, 1 << 20),)))
    assert os.fstat(gigabyte).st_blocks * 512 <= 2 * 4096
    assert os.pread(gigabyte, 5001, 1 << 29) == bytes(data) + b"\0"


def test_memory_can_not_shrink_under_a_mapping(gigabyte: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(gigabyte, 4096)


def test_memory_has_no_name_in_the_file_system(gigabyte: int) -> None:
    assert "(deleted)" in os.readlink(f"/proc/self/fd/{gigabyte}")
    assert not any("test-ram" in entry.name for entry in Path("/dev/shm").iterdir())
    assert not os.get_inheritable(gigabyte)


def test_a_size_that_the_system_refuses_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        create_memory("test-huge", -1)
    assert len(os.listdir("/proc/self/fd")) == before
