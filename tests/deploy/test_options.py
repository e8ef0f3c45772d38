# SPDX-License-Identifier: GPL-2.0-or-later
"""Options: what cannot be right is refused in one sentence, before anything is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.options.options import RunOptions
from allstop.vm.config.kinds import Device, memory_size, number
from allstop.vm.config.specs import DeviceSpec
from allstop.vm.errors import UsageError

IMAGE = Path("guest.elf")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vcpus": 2.5}, "whole number, not 2.5"),
        ({"vcpus": "4"}, "whole number, not '4'"),
        ({"vcpus": 0}, "not 0"),
        ({"vcpus": -1}, "not -1"),
        ({"vcpus": 129}, "1 to 128"),
        ({"vcpus": 300}, "not 300"),
        ({"memory_bytes": 4096}, "steps of 2M"),
        ({"memory_bytes": 1 << 40}, "2M to"),
        ({"timeout_s": 0.0}, "positive"),
        ({"timeout_s": float("nan")}, "positive"),
        ({"timeout_s": float("inf")}, "positive"),
        ({"fetch": ""}, "fetch policy"),
        ({"tlb": "x86"}, "TLB discipline"),
        ({"decode": "most"}, "decoder"),
        ({"time_dilation": 0}, "dilation must be 1 to 1000, not 0"),
        ({"time_dilation": 1001}, "not 1001"),
        ({"time_dilation": 1.5}, "whole number, not 1.5"),
        ({"seed": -1}, "seed"),
        ({"parameter": 1 << 32}, "parameter"),
        ({"load_ipa": 1 << 32}, "load address"),
    ],
)
def test_values_that_can_not_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        RunOptions(image=IMAGE, **arguments)
    assert "\n" not in str(caught.value)


def test_devices_are_checked_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("")
    RunOptions(image=IMAGE, devices=(DeviceSpec(str(file), "Mine", 0x0C00_0000),))
    for spec, words in (
        (DeviceSpec(str(tmp_path / "no.py"), "Mine", 0), "does not exist"),
        (DeviceSpec(str(file), "Mi ne", 0), "no name"),
        (DeviceSpec(str(file), "Mine", 0x0C00_0010), "multiple of 4096"),
        (DeviceSpec(str(file), "Mine", 0x4000_0000), "in the guest's memory"),
        (DeviceSpec(str(file), "Mine", 1 << 32), "32-bit"),
    ):
        with pytest.raises(UsageError, match=words):
            RunOptions(image=IMAGE, devices=(spec,))


def device(text: str) -> DeviceSpec:
    found: DeviceSpec = Device().read("device", text)
    return found


def test_a_device_is_a_file_a_class_and_an_address() -> None:
    assert device("/a/b:c.py:Mine@0x0c000000") == DeviceSpec("/a/b:c.py", "Mine", 0x0C00_0000)
    assert device("x.py:Mine@4096").path == f"{os.getcwd()}/x.py"
    for text in ("", "x.py", "x.py:Mine", "x.py@1", "x.py:@1", ":Mine@1", "x.py:Mine@"):
        with pytest.raises(UsageError, match="FILE.py:Class@ADDRESS"):
            device(text)
    with pytest.raises(UsageError, match="address of device Mine"):
        device("x.py:Mine@here")


def test_numbers_and_sizes() -> None:
    assert number("seed", "0x10") == 16 and number("seed", "7") == 7
    with pytest.raises(UsageError, match="the seed must be a whole number, not '1.5'"):
        number("seed", "1.5")
    assert memory_size("1G") == memory_size(1 << 30) == 1 << 30
    for text in ("much", "9" * 5000):
        with pytest.raises(UsageError, match="a size such as 64M"):
            memory_size(text)
    for text in ("0x" + "f" * 5000, "9" * 5000):
        with pytest.raises(UsageError, match="the seed must be a whole number"):
            number("seed", text)


@given(st.text(max_size=30))
def test_no_text_is_anything_but_a_value_or_a_usage_error(text: str) -> None:
    for read in (device, memory_size, lambda value: number("number", value)):
        try:
            read(text)
        except UsageError:
            continue


def read(tmp_path: Path, name: str, data: bytes, **arguments: Any) -> str:
    """The sentence with which an image is refused; "" when it is not."""
    path = tmp_path / name
    path.write_bytes(data)
    try:
        RunOptions(image=path, **arguments).read_image()
    except UsageError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return str(error)
    return ""


def test_what_an_image_is_shows_in_its_content_and_its_name(tmp_path: Path, guests: Path) -> None:
    elf = (guests / "hello.elf").read_bytes()
    assert read(tmp_path, "no-suffix", elf) == ""
    assert read(tmp_path, "an-elf-all-the-same.bin", elf) == ""
    assert read(tmp_path, "image.bin", b"1234") == ""
    assert read(tmp_path, "anything", b"1234", load_ipa=0x4000_0000) == ""
    assert "is not an ELF file; if it is a raw image, say --load" in read(tmp_path, "guest.elf", b"1234")
    assert "truncated" in read(tmp_path, "short.elf", elf[:100])
    assert "is empty" in read(tmp_path, "empty.bin", b"")
    assert "is not an ELF file" in read(tmp_path, "empty.elf", b"")


def test_images_that_do_not_fit(tmp_path: Path, guests: Path) -> None:
    assert "too big for the guest's memory" in read(tmp_path, "big.bin", bytes(3 << 20), memory_bytes=2 << 20)
    assert "outside the guest's memory" in read(tmp_path, "far.bin", b"1234", load_ipa=0x8000_0000)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "fifo", "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "none", "No such file"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises(UsageError, match=words):
            RunOptions(image=path).read_image()


def test_a_huge_sparse_file_is_refused_without_being_read(tmp_path: Path) -> None:
    for name, head in (("huge.bin", b"1234"), ("huge.elf", b"\x7fELF")):
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            file.truncate(1 << 40)
        with pytest.raises(UsageError, match="too big|larger than any"):
            RunOptions(image=tmp_path / name).read_image()
