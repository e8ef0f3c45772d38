# SPDX-License-Identifier: GPL-2.0-or-later
"""The flattened device tree that tells a guest what machine it is on.

`build` describes the board; `adapt` takes a user's own tree and changes in it what only the run knows. Both give the
blob that lies in guest memory. Nodes, names and properties are those of QEMU's `virt` machine with `-cpu cortex-a15`
and GICv2, as far as this board has the device (QEMU, hw/arm/virt.c and hw/arm/boot.c). A device's row in `vm/board.py`
describes its node. The board's test devices and a user's devices have none: a guest that finds its devices by the tree
has no driver for them.

Source of the format: Devicetree Specification 0.4, chapter 3.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import fdt

from allstop.vm import board
from allstop.vm.arm.psci import PsciFunction
from allstop.vm.boot.images import ImageError
from allstop.vm.boot.tree_blob import blob, parse

_AFFINITY_MASK = 0x00FF_FFFF
_CLOCK_HZ = 24_000_000
_SPI, _PPI = 0, 1
_TIMER_PPIS = (13, 14, 11, 10)  # secure, physical, virtual, hypervisor: the binding's order
_SPI_BASE = 32


@dataclass(frozen=True)
class RunFacts:
    """What a tree says beyond the board: the machine's size, and what is handed to the guest's kernel.

    `initrd` is the guest-physical range [start, end) of an initial RAM disk. `seed` gives the tree's random numbers,
    so equal runs have equal trees.
    """

    vcpus: int
    memory_bytes: int
    command_line: str = ""
    initrd: tuple[int, int] | None = None
    seed: int = 0


def build(facts: RunFacts) -> bytes:
    """The board's own tree."""
    root = fdt.Node("/")
    _fill(
        root,
        _words("interrupt-parent", board.GIC_PHANDLE),
        _strings("model", "linux,dummy-virt"),
        _words("#size-cells", 2),
        _words("#address-cells", 2),
        _strings("compatible", "linux,dummy-virt"),
        _psci(),
        _memory(facts.memory_bytes, 2, 2),
        *(node for row in reversed(board.DEVICES) if row.node is not None for node in _device(row, row.node)),
        _cpus(facts.vcpus),
        _timer(facts.vcpus),
        _clock(),
        _node("aliases", _strings("serial0", f"/pl011@{board.PL011_BASE:x}")),
        _chosen(facts),
    )
    return blob(root)


def adapt(tree: bytes, facts: RunFacts) -> bytes:
    """A user's tree with this run's memory, command line and initial RAM disk.

    The memory nodes are replaced; a command line replaces the tree's own where there is one; the place of an initial
    RAM disk is set, or taken away where this run has none. Raises ImageError when `tree` is no device tree that a
    guest could read.
    """
    parsed, reserved = parse(tree)
    address_cells, size_cells = (_cells(parsed, name) for name in ("#address-cells", "#size-cells"))
    for node in [node for node in parsed.nodes if node.name.partition("@")[0] == "memory"]:
        parsed.nodes.remove(node)
    parsed.append(_memory(facts.memory_bytes, address_cells, size_cells))
    chosen = parsed.get_subnode("chosen")
    if chosen is None:
        chosen = _node("chosen")
        parsed.append(chosen)
    for name in ("linux,initrd-start", "linux,initrd-end"):
        chosen.remove_property(name)
    if facts.command_line:
        chosen.remove_property("bootargs")
    _fill(chosen, *_handed_over(facts))
    return blob(parsed, reserved)


def _psci() -> fdt.Node:
    # 0.2 is what VERSION answers (coordinator/world/psci.py). The numbers are for systems that know PSCI 0.1 only.
    return _node(
        "psci",
        _words("migrate", PsciFunction.MIGRATE),
        _words("cpu_on", PsciFunction.CPU_ON),
        _words("cpu_off", PsciFunction.CPU_OFF),
        _words("cpu_suspend", PsciFunction.CPU_SUSPEND),
        _strings("method", "hvc"),
        _strings("compatible", "arm,psci-0.2", "arm,psci"),
    )


def _memory(memory_bytes: int, address_cells: int, size_cells: int) -> fdt.Node:
    return _node(
        f"memory@{board.RAM_BASE:x}",
        _strings("device_type", "memory"),
        _words("reg", *_number(board.RAM_BASE, address_cells), *_number(memory_bytes, size_cells)),
    )


def _device(row: board.BoardDevice, described: board.TreeNode) -> Iterator[fdt.Node]:
    """The nodes of a device: one for each of its units."""
    size_bytes = row.size_bytes // row.units
    for unit in range(row.units):
        ipa = row.base + unit * size_bytes
        yield _node(
            f"{described.name}@{ipa:x}",
            *_properties(described.before),
            *(() if row.intid is None else (_spi(row.intid + unit, described.trigger),)),
            _reg(*(described.regions or ((ipa, size_bytes),))),
            _strings("compatible", *described.compatible),
            *_properties(described.after),
        )


def _properties(properties: board.Properties) -> Iterator[fdt.Property]:
    for name, values in properties:
        if not values:
            yield fdt.Property(name)
        elif isinstance(values[0], str):
            yield _strings(name, *map(str, values))
        else:
            yield _words(name, *map(int, values))


def _cpus(vcpus: int) -> fdt.Node:
    """Every vCPU has its node, also beyond the eight that a GICv2 serves: a guest that polls can use them."""
    clusters: dict[int, fdt.Node] = {}
    cpus = _node("cpus", _words("#size-cells", 0), _words("#address-cells", 1))
    for vcpu in range(vcpus):
        cluster, core = divmod(vcpu, board.CPUS_PER_CLUSTER)
        place = clusters.setdefault(cluster, _node(f"cluster{cluster}"))
        place.append(_node(f"core{core}", _words("cpu", board.FIRST_CPU_PHANDLE + vcpu)))
    cpus.append(_node("cpu-map", _node("socket0", *clusters.values())))
    for vcpu in range(vcpus):
        affinity = board.mpidr(vcpu) & _AFFINITY_MASK
        cpus.append(
            _node(
                f"cpu@{affinity:x}",
                _words("phandle", board.FIRST_CPU_PHANDLE + vcpu),
                _words("reg", affinity),
                _strings("enable-method", "psci"),
                _strings("compatible", "arm,cortex-a15"),
                _strings("device_type", "cpu"),
            )
        )
    return cpus


def _timer(vcpus: int) -> fdt.Node:
    # Bits 15:8 of a PPI's flags hold the set of its CPUs: a GICv2 has eight.
    flags = (1 << min(vcpus, board.GIC_MAX_CPUS)) - 1 << 8 | board.LEVEL_HIGH
    return _node(
        "timer",
        _words("interrupts", *(cell for ppi in _TIMER_PPIS for cell in (_PPI, ppi, flags))),
        fdt.Property("always-on"),
        _strings("compatible", "arm,armv7-timer"),
    )


def _clock() -> fdt.Node:
    return _node(
        "apb-pclk",
        _words("phandle", board.CLOCK_PHANDLE),
        _strings("clock-output-names", "clk24mhz"),
        _words("clock-frequency", _CLOCK_HZ),
        _words("#clock-cells", 0),
        _strings("compatible", "fixed-clock"),
    )


def _chosen(facts: RunFacts) -> fdt.Node:
    # Not random, but what a kernel needs to have numbers at once; equal runs shall see equal ones.
    stream = hashlib.shake_256(f"allstop device tree {facts.seed}".encode()).digest(40)
    return _node(
        "chosen",
        _strings("stdout-path", f"/pl011@{board.PL011_BASE:x}"),
        _words("rng-seed", *struct.unpack(">8I", stream[:32])),
        _words("kaslr-seed", *struct.unpack(">2I", stream[32:])),
        *_handed_over(facts),
    )


def _handed_over(facts: RunFacts) -> Iterator[fdt.Property]:
    """The properties of /chosen that only the run knows."""
    if facts.command_line:
        yield _strings("bootargs", facts.command_line)
    if facts.initrd is not None:
        yield _words("linux,initrd-start", facts.initrd[0])
        yield _words("linux,initrd-end", facts.initrd[1])


def _cells(root: fdt.Node, name: str) -> int:
    cells = root.get_property(name)
    count = cells.value if isinstance(cells, fdt.PropWords) else None
    if count not in (1, 2):
        raise ImageError(f"is a device tree whose root has no usable {name}: it must be 1 or 2")
    return int(count)


def _node(name: str, *items: fdt.Node | fdt.Property) -> fdt.Node:
    node = fdt.Node(name)
    _fill(node, *items)
    return node


def _fill(node: fdt.Node, *items: fdt.Node | fdt.Property) -> None:
    for item in items:
        node.append(item)


def _words(name: str, *values: int) -> fdt.Property:
    return fdt.PropWords(name, *map(int, values))


def _strings(name: str, *values: str) -> fdt.Property:
    return fdt.PropStrings(name, *values)


def _number(value: int, cells: int) -> tuple[int, ...]:
    return tuple(value >> 32 * cell & 0xFFFF_FFFF for cell in reversed(range(cells)))


def _reg(*ranges: tuple[int, int]) -> fdt.Property:
    return _words("reg", *(cell for ipa, size in ranges for cell in (*_number(ipa, 2), *_number(size, 2))))


def _spi(intid: int, flags: int) -> fdt.Property:
    return _words("interrupts", _SPI, intid - _SPI_BASE, flags)
