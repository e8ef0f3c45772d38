# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtio devices on whole machines: the guest that drives them all, in every mode, disturbed, and with bad images."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from allstop.machine import Machine
from allstop.vm.errors import UsageError

pytestmark = pytest.mark.processes

IMAGES = Path(__file__).parents[2] / "guests" / "images"
GUEST = IMAGES / "virtio.elf"
TIMEOUT_S = 90.0
SECTORS = 256


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"the first sector".ljust(SECTORS * 512, b"\0"))
    return path


def run(image: Path, mode: str = "cow", **named: Any) -> tuple[Any, str]:
    """The verdict, and the console."""
    named.setdefault("parameter", 10)
    drives = [f"{image},{mode}"]
    with Machine(GUEST, timeout=TIMEOUT_S, drives=drives, virtio_console=True, rng=True, **named) as machine:
        verdict = machine.wait()
        return verdict, machine.console


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_guest_uses_them_all(image: Path, vcpus: int, legacy: bool) -> None:
    before = image.read_bytes()
    verdict, console = run(image, vcpus=vcpus, virtio_legacy=legacy)
    assert verdict.verdict == "pass", (verdict.sentence, console)
    assert f"disk at transport 0, version {1 if legacy else 2}" in console
    assert f'{SECTORS} sectors, the first begins "the first sector"' in console
    assert "a line by way of virtio\n" in console and 'serial "allstop-0"' in console
    assert "rounds=10" in console and "stale=0" in console
    assert image.read_bytes() == before and verdict.notes == ()


def test_a_drive_that_may_be_written_is(image: Path) -> None:
    verdict, console = run(image, "rw")
    assert verdict.verdict == "pass", (verdict.sentence, console)
    assert image.read_bytes()[2 * 512 : 6 * 512] == bytes((i * 7 + i // 512) & 0xFF for i in range(4 * 512))


def test_a_drive_that_may_only_be_read(image: Path) -> None:
    before = image.read_bytes()
    image.chmod(0o400)
    verdict, console = run(image, "ro")
    assert verdict.verdict == "pass", (verdict.sentence, console)
    assert image.read_bytes() == before


def test_entropy_is_the_seeds(image: Path) -> None:
    def entropy(seed: int) -> str:
        return next(line for line in run(image, seed=seed)[1].splitlines() if "entropy" in line and "at" not in line)

    assert entropy(1) == entropy(1) != entropy(2)


@pytest.mark.parametrize("tlb", ["broadcast", "ipi"])
def test_it_works_while_all_of_its_pages_are_swapped(image: Path, tlb: str) -> None:
    """Rings, buffers, code and tables: whatever the device needs is out now and then."""
    verdict, console = run(
        image,
        vcpus=2,
        tlb=tlb,
        parameter=60,
        events=[
            {"action": "swap-out", "ipa": 0x40010000 + 4096 * page, "at_ms": 5 + page % 7, "every_ms": 7}
            for page in range(48)
        ],
    )
    assert verdict.verdict == "pass", (verdict.sentence, console)
    assert verdict.counters["swap_out"] > 50
    assert verdict.counters["swap_in"] < verdict.counters["swap_out"], "the device has brought some in itself"
    assert "stale=0" in console


@pytest.mark.parametrize(
    ("event", "counter"),
    [
        ({"action": "reply-drop", "step": "before-reply", "every": 40, "times": 3}, "mmio_resent"),
        ({"action": "reply-repeat", "step": "before-reply", "probability": 0.2}, "mmio_stale_reply"),
    ],
)
def test_a_request_is_done_once_however_often_it_is_asked_for(image: Path, event: Any, counter: str) -> None:
    verdict, console = run(image, events=[event])
    assert verdict.verdict == "pass", (verdict.sentence, console)
    assert verdict.counters[counter] > 0


def test_an_image_that_is_cut_short_under_the_guest_is_its_io_error(image: Path, machine: Any, until: Any) -> None:
    with machine(
        "virtio.elf", "--drive", image, "--rng", "--virtio-console", "--parameter", 100000, "--timeout", 60
    ) as running:
        until(
            lambda: running.in_guest() and (page := running.page()) is not None and sum(page.counters(0)) > 400,
            "the guest works",
        )
        os.truncate(image, 0)
        status, console, errors = running.finish()
    assert status == 1, (console, errors)
    assert "cannot be" in console
    assert f"note: the drive's image {image} failed the guest (VIRTIO_BLK_S_IOERR): it has become shorter" in errors


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}/nowhere.img", "nowhere.img cannot be opened: No such file or directory"),
        ("{}", "is neither a regular file nor a block device"),
        ("{}/odd.img", "has 100 bytes: it must be a multiple of 512"),
        ("{}/disk.img,rx", "'rx' is no mode of a drive: choose one of cow, ro, rw"),
        (",ro", "a drive is given as FILE or FILE,MODE"),
    ],
)
def test_what_is_wrong_with_a_drive_is_one_sentence(image: Path, command: Any, text: str, sentence: str) -> None:
    (image.parent / "odd.img").write_bytes(bytes(100))
    refused = command("run", GUEST, "--drive", text.format(image.parent))
    assert refused.returncode == 2 and sentence in refused.stderr and refused.stderr.count("\n") == 1
    with pytest.raises(UsageError):
        Machine(GUEST, drives=[text.format(image.parent)])


def test_more_than_the_board_has_room_for(image: Path, command: Any) -> None:
    refused = command("run", GUEST, *["--drive", str(image)] * 32, "--rng")
    assert refused.returncode == 2 and "has 32 virtio transports, not the 33 that are asked for" in refused.stderr


def exiting_guest(folder: Path, text: bytes) -> Path:
    """A raw image that writes `text` to the console device at transport 0, legacy and without a word of status, as
    kvm-unit-tests do: the memory is laid out ahead, and what is left are stores of words to registers."""
    words: list[int] = []
    base, ring = 0x0A00_0000, 0x4000_4000
    for offset, value in ((0x28, 4096), (0x30, 1), (0x38, 128), (0x3C, 4096), (0x40, ring >> 12), (0x50, 1)):
        for register, number in ((0, base + offset), (1, value)):
            words.append(0xE3000000 | register << 12 | (number & 0xF000) << 4 | number & 0xFFF)  # movw
            words.append(0xE3400000 | register << 12 | (number >> 28 << 16) | number >> 16 & 0xFFF)  # movt
        words.append(0xE5801000)  # str r1, [r0]
    words.append(0xEAFFFFFE)  # b .
    memory = bytearray(struct.pack(f"<{len(words)}I", *words).ljust(0x6000, b"\0"))
    memory[0x4000:0x4010] = struct.pack("<QIHH", 0x4000_5F00, len(text), 0, 0)
    struct.pack_into("<HHH", memory, 0x4000 + 16 * 128, 0, 1, 0)
    memory[0x5F00 : 0x5F00 + len(text)] = text
    path = folder / "exit.bin"
    path.write_bytes(memory)
    return path


@pytest.mark.parametrize(("text", "status", "verdict"), [(b"0q", 0, "pass"), (b"3q", 1, "fail")])
def test_the_exit_of_kvm_unit_tests(tmp_path: Path, image: Path, text: bytes, status: int, verdict: str) -> None:
    with Machine(
        exiting_guest(tmp_path, text),
        load=0x4000_0000,
        testdev=True,
        virtio_console=True,
        timeout=30,
        drives=[str(image)],
    ) as machine:
        ended = machine.wait()
    assert (ended.verdict, ended.exit_code, ended.guest_status) == (verdict, status, int(text[:1])), ended.sentence
    assert f"the guest wrote {text.decode()} to the test console" in ended.sentence
