# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel is given beside its image: refused in one sentence, or found by the guest where r2 says."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allstop import Machine
from allstop.deploy.options.options import RunOptions
from allstop.vm.boot.device_tree import RunFacts, build
from allstop.vm.boot.tree_blob import parse
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.options import to_arguments
from allstop.vm.errors import UsageError

# Passes if r0 is 0, r1 is 0xffffffff and r2 points to the magic number of a device tree.
CHECK_REGISTERS = struct.pack(
    "<12I",
    0xE350_0000,  # cmp   r0, #0
    0x03E0_3000,  # mvneq r3, #0
    0x0151_0003,  # cmpeq r1, r3
    0x0592_4000,  # ldreq r4, [r2]
    0x059F_5014,  # ldreq r5, magic
    0x0154_0005,  # cmpeq r4, r5
    0xE3A0_0001,  # mov   r0, #1
    0x03A0_0000,  # moveq r0, #0
    0xE3A0_640B,  # mov   r6, #0x0b000000
    0xE586_0000,  # str   r0, [r6]
    0xEAFF_FFFE,  # b     .
    0xEDFE_0DD0,  # magic
)
START = RAM_BASE + 0x1_0000


def zimage(code: bytes) -> bytes:
    head = struct.pack("<9I", 0xEA00_000E, *[0xE1A0_0000] * 8) + struct.pack(
        "<5I", 0x016F_2818, 0, 0x40 + len(code), 0x0403_0201, 0
    )
    return head.ljust(0x40, b"\0") + code


def elf(code: bytes) -> bytes:
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 40, 1, START, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<8I", 1, 84, START, START, len(code), len(code), 5, 4) + code


IMAGES = {"guest.flat": bytes, "vmlinuz": zimage, "guest.elf": elf}


@pytest.fixture
def image(tmp_path: Path) -> Callable[[str], Path]:
    """A guest of this name that looks at its first registers."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(IMAGES[name](CHECK_REGISTERS))
        return path

    return make


@pytest.mark.processes
@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("given", [False, True])
def test_the_guest_finds_its_tree_at_r2(image: Callable[[str], Path], tmp_path: Path, name: str, given: bool) -> None:
    arguments: dict[str, Any] = {}
    if given:
        (tmp_path / "disk").write_bytes(b"disk")
        (tmp_path / "mine.dtb").write_bytes(build(RunFacts(1, 2 << 20)))
        arguments = {"initrd": tmp_path / "disk", "append": "quiet", "dtb": tmp_path / "mine.dtb"}
    with Machine(image(name), memory="2M", timeout=30, run_dir=tmp_path / "run", **arguments) as machine:
        verdict = machine.wait(60)
    assert (verdict.verdict, verdict.guest_status) == ("pass", 0)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["boot"]
    assert recorded["image_kind"] == {"guest.flat": "raw", "vmlinuz": "zimage", "guest.elf": "elf"}[name]
    assert recorded["append"] == arguments.get("append", "")
    assert recorded["dtb"] == (str(tmp_path / "mine.dtb") if given else None)
    assert recorded["initrd"] == (str(tmp_path / "disk") if given else None)


def test_the_tree_and_the_disk_lie_in_memory_as_recorded(machine: Any, until: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"initial" * 1000)
    with machine(
        "spin.elf", "--initrd", tmp_path / "disk", "--append", "a=b c", "--vcpus", 2, "--run-dir", tmp_path / "run"
    ) as running:
        until(running.in_guest, "the guest to run")
        place = json.loads((tmp_path / "run" / "run.json").read_text())["boot"]
        with running.memory("ram").open("rb") as ram:
            ram.seek(place["tree_ipa"] - RAM_BASE)
            root, _ = parse(ram.read(place["tree_bytes"]))
            ram.seek(place["initrd_place"][0] - RAM_BASE)
            assert ram.read(place["initrd_place"][1] - place["initrd_place"][0]) == b"initial" * 1000
    chosen = root.get_subnode("chosen")
    assert chosen.get_property("bootargs").value == "a=b c"
    assert [chosen.get_property(f"linux,initrd-{end}").value for end in ("start", "end")] == place["initrd_place"]
    assert len([node for node in root.get_subnode("cpus").nodes if node.name.startswith("cpu@")]) == 2


def refusal(image: Path, **arguments: Any) -> str:
    with pytest.raises(UsageError) as caught:
        RunOptions(image=image, **arguments, memory_bytes=4 << 20).startup()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_can_not_be_is_refused_in_a_sentence(image: Callable[[str], Path], tmp_path: Path) -> None:
    raw, kernel = image("guest.flat"), image("vmlinuz")
    big, empty, text = tmp_path / "big", tmp_path / "empty", tmp_path / "text"
    with big.open("wb") as file:
        file.truncate(1 << 40)
    empty.touch()
    text.write_text("/dts-v1/;\n")
    assert "cannot be read: No such file" in refusal(raw, initrd=tmp_path / "none")
    assert "is not a regular file" in refusal(raw, initrd=tmp_path)
    assert f"initial RAM disk {big} has 1099511627776 bytes" in refusal(raw, initrd=big)
    assert "is empty" in refusal(raw, initrd=empty)
    assert f"the device tree {text} is not a device tree blob" in refusal(raw, dtb=text)
    assert f"the device tree {big} has" in refusal(raw, dtb=big)
    assert "1023" in refusal(kernel, append="x" * 1024)
    RunOptions(image=kernel, append="x" * 1023).startup()
    RunOptions(image=raw, append="x" * 2047).startup()
    for append in ("caf\u00e9", "a\nb", "a\0b"):
        assert "printable ASCII" in refusal(raw, append=append)
    assert "2048 characters" in refusal(raw, append="x" * 2048)
    assert "must be text" in refusal(raw, append=b"bytes")
    with big.open("wb") as file:
        file.truncate(4 << 20)
    assert "leaves no room for an initial RAM disk of 4194304 bytes in 4M" in refusal(raw, initrd=big)


def test_a_file_that_is_often_given_instead_is_named(tmp_path: Path) -> None:
    for name, head, words in (
        ("uImage", b"\x27\x05\x19\x56", "U-Boot"),
        ("Image.gz", b"\x1f\x8b\x08\x00", "gzip"),
        ("uimage.img", b"\x27\x05\x19\x56", "U-Boot"),
    ):
        (tmp_path / name).write_bytes(head + bytes(100))
        assert words in refusal(tmp_path / name)
    (tmp_path / "short").write_bytes(zimage(CHECK_REGISTERS)[:-1])
    assert "is a truncated zImage" in refusal(tmp_path / "short")


@pytest.mark.processes
def test_the_command_and_python_ask_alike(image: Callable[[str], Path], command: Any, tmp_path: Path) -> None:
    path = image("vmlinuz")
    for arguments, words in (
        ({"dtb": path}, "is not a device tree blob"),
        ({"append": "\n"}, "printable ASCII"),
        ({"initrd": tmp_path / "none"}, "No such file"),
    ):
        with pytest.raises(UsageError, match=words):
            Machine(path, **arguments)
        done = command("run", path, *(f"--{name}={value}" for name, value in arguments.items()))
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    asked = RunOptions(path, initrd=Path("disk"), append="-x --y", dtb=Path("a tree"))
    assert to_arguments(asked) == ["--append=-x --y", "--initrd=disk", "--dtb=a tree"]
    assert to_arguments(RunOptions(path)) == []
    with pytest.raises(UsageError, match="initial RAM disk must be a path"):
        Machine(path, initrd=3)  # type: ignore[arg-type]
