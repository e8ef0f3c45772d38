# SPDX-License-Identifier: GPL-2.0-or-later
"""A distribution's kernel: it boots without a complaint, keeps time, sleeps, and keeps its data when disturbed."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.linux.conftest import Linux

pytestmark = pytest.mark.processes

Boot = Callable[..., Linux]
# What a kernel says when it misses something or finds it wrong. "Spectre" is said on QEMU, too.
COMPLAINT = re.compile(
    r"warn|bad mode|unable|unexpected|powered down|stall|lockup|spurious|oops|bug:|failed|"
    r"arch_timer.*(broken|disabled)|undefined instruction",
    re.IGNORECASE,
)
PAGES = 64
KERNEL_CODE = 0x4030_0000
MIDDLE = 0x4A00_0000  # of 256M of memory


@pytest.mark.parametrize("vcpus", [1, 4])
def test_it_boots_without_a_complaint_and_powers_off(linux: Boot, vcpus: int) -> None:
    """Would break: registers, GIC, timer, PSCI or the tree not being what the kernel expects of the board."""
    with linux(vcpus=vcpus) as guest:
        assert int(guest("nproc")) == vcpus
        said = guest("dmesg")
        verdict = guest.power_off()
    assert [line for line in said.splitlines() if COMPLAINT.search(line)] == []
    assert "5 (+1 reserved) breakpoint and 4 watchpoint registers" in said, "as on QEMU"
    assert (verdict.verdict, verdict.sentence) == ("pass", "the guest powered the machine off")


def test_a_cpu_goes_and_comes_back(linux: Boot) -> None:
    """Would break: PSCI CPU_OFF and CPU_ON, interrupts and timers of a CPU that has been off."""
    with linux(vcpus=2) as guest:
        for _ in range(3):
            guest("echo 0 > /sys/devices/system/cpu/cpu1/online")
            assert int(guest("nproc")) == 1
            guest("echo 1 > /sys/devices/system/cpu/cpu1/online")
            assert int(guest("nproc")) == 2
        guest("taskset 2 sleep 0.2")
        assert guest.power_off().verdict == "pass"


def test_it_keeps_time_and_sleeps(linux: Boot) -> None:
    """Would break: the timer's rate, its interrupts, the clock's alarm, and a WFI that spins."""
    with linux(vcpus=2) as guest:
        assert abs(int(guest("date +%s")) - time.time()) < 3
        before, cpu_before = time.monotonic(), _cpu_s(guest.machine.launcher_pid)
        elapsed = guest("read a b < /proc/uptime; sleep 4; read c d < /proc/uptime; echo $a $c").split()
        host_s, cpu_s = time.monotonic() - before, _cpu_s(guest.machine.launcher_pid) - cpu_before
        guest_s = float(elapsed[1]) - float(elapsed[0])
        assert 3.98 < guest_s < host_s + 0.02
        assert cpu_s < 1.5, "of 8 s that two vCPUs could have used"
        guest("echo 0 > /sys/class/rtc/rtc0/wakealarm; echo +1 > /sys/class/rtc/rtc0/wakealarm; sleep 2.5")
        assert re.search(r": +[12] .*rtc-pl031", guest("cat /proc/interrupts")), "the alarm has come"


@pytest.mark.parametrize("tlb", ["broadcast", "ipi"])
def test_data_stay_whole_while_pages_are_swapped(linux: Boot, tlb: str) -> None:
    """Would break: a kernel, its programs and their data under swap at stage 2."""
    places = [KERNEL_CODE + 0x9000 * place for place in range(PAGES // 2)]
    places += [MIDDLE + 0x101000 * place for place in range(PAGES // 2)]
    events = [
        {"action": "swap-out", "ipa": ipa, "at_ms": 50 + place, "every_ms": 20} for place, ipa in enumerate(places)
    ]
    with linux(vcpus=2, tlb=tlb, events=events) as guest:
        guest("head -c 200000 /bin/busybox > /tmp/a; sum=$(sha256sum < /tmp/a)")
        guest(
            "round() { for i in 1 2 3; do gzip -c /tmp/a > /tmp/$1; "
            '[ "$(gunzip -c /tmp/$1 | sha256sum)" = "$sum" ] || echo bad; done; }'
        )
        assert guest("round b & round c & round d & wait") == ""
        verdict = guest.power_off()
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.counters["swap_out"] > 100


def test_a_disk_keeps_what_is_written(linux_with_modules: Boot, tmp_path: Path) -> None:
    """Would break: virtio, its interrupts, and a filesystem on it."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    disk, frozen = tmp_path / "disk.img", tmp_path / "frozen.img"
    for image in (disk, frozen):
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(("mkfs.ext4", "-q", image), check=True)
    before = frozen.read_bytes()
    with linux_with_modules(vcpus=2, drives=[f"{disk},rw", f"{frozen},ro"], rng=True) as guest:
        guest("mount -t ext4 /dev/vda /mnt && dd if=/dev/hwrng of=/mnt/f bs=64k count=20")
        digest = guest("sha256sum < /mnt/f")
        guest("umount /mnt && echo 3 > /proc/sys/vm/drop_caches && mount -t ext4 /dev/vda /mnt")
        assert guest("sha256sum < /mnt/f") == digest
        guest("umount /mnt")
        assert guest.attempt("dd if=/dev/zero of=/dev/vdb bs=4k count=1 2>&1")[0] != 0
        assert guest.power_off().verdict == "pass"
    assert subprocess.run(("e2fsck", "-fn", disk), capture_output=True, check=False).returncode == 0
    assert frozen.read_bytes() == before


def test_typing_goes_to_the_shell_when_a_second_console_is_there(linux_with_modules: Boot) -> None:
    """Would break: input that goes to hvc0, which no program has opened, as soon as its driver is loaded."""
    with linux_with_modules(virtio_console=True) as guest:
        guest("echo by way of virtio > /dev/hvc0")
        assert "by way of virtio" in guest.machine.console
        assert guest.power_off().verdict == "pass"


def _cpu_s(pid: int) -> float:
    """Processor time of a process and of its children, in seconds."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / 100 + sum(_cpu_s(int(child)) for child in children)
