# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests that come with allstop: their images are data of the package, also in an installed wheel."""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).parents[2] / "images"
"""The folder of the images; the sources are in the repository's `guests/`."""

GUESTS = {
    "atomics": "exclusives of every width, adjacent and overlapping, contended",
    "boot": "aborts, demand paging, User mode, nested exceptions, VFP, banked registers, PSCI",
    "code": "code that another vCPU writes, and code that rewrites its own page",
    "crowd": "a relay through vCPUs that wait by plain loads, YIELD or WFE; vCPUs asleep in WFI",
    "fail": "fails with status 3",
    "hello": "every vCPU prints a line, in turn; MMU off",
    "history": "random reads, writes and exclusives: each word has one history for all vCPUs",
    "ipi": "SGIs: masked, by priority, nested; ping-pong, ring, broadcast; at most 8 vCPUs",
    "latency": "times exits, device accesses and interrupts, for bench.latency",
    "mmio": "some 830 loads and stores, A32 and Thumb, on the RAM device as on memory",
    "mp": "litmus test: message passing, with DMB and without",
    "nowhere": "jumps to an address where nothing is",
    "pages": "the cost of pages of other hosts: to read, to write, alternately, and unshared",
    "peers": "computes, shares, invalidates, interrupts: the same image on QEMU, for bench.peers",
    "registers": "reads every register of CP14 and CP15 and writes the safe ones; one vCPU",
    "sb": "litmus test: store buffering, with DMB and without",
    "semihosting": "console, files, clock, heap and exit by semihosting calls; needs --semihosting",
    "silent": "prints no newline and ends by PSCI SYSTEM_OFF: a pass",
    "smp-counter": "counts under a ticket lock, with LDREX/STREX, and under an MCS lock",
    "spin": "never ends: give it a --timeout",
    "swapper": "accesses without syndrome from pages that are swapped out, reused and faulted in",
    "tlb": "map, use, unmap, TLBIMVAIS, fault, remap, use: data and code, all vCPUs",
    "tlbi": "litmus test: a page moves from frame to frame under a running reader",
    "uart": "echoes what is typed on the PL011 from an interrupt handler; `quit` passes",
    "undefined": "takes an Undefined Instruction exception without vectors",
    "virtio": "disk, entropy and console, by interrupt; needs --drive, --rng, --virtio-console",
    "wfi-forever": "sleeps in WFI forever: give it a --timeout",
}
"""Every bundled guest by its name, with what it does in one line."""


def image(name: str) -> Path:
    """The image of the bundled guest `name`."""
    return IMAGES / f"{name}.elf"


def resolve(path: Path, folder: Path | None = None) -> Path:
    """The image that a user means by `path`: the file of that name, or else the bundled guest of that name.

    An existing file wins, and a path with a folder in it never names a bundled guest. A relative path starts from
    `folder`, or from the current folder.
    """
    file = path if folder is None else folder / path
    return image(str(path)) if str(path) in GUESTS and not file.exists() else file
