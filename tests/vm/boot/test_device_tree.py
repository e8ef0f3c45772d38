# SPDX-License-Identifier: GPL-2.0-or-later
"""The device tree: it says what the board is and what the run gives, as QEMU's does; a damaged one is refused."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import fdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm import board
from allstop.vm.boot.device_tree import RunFacts, adapt, build
from allstop.vm.boot.images import ImageError
from allstop.vm.boot.tree_blob import MAX_TREE_BYTES, blob, parse

MEMORY = 256 << 20
QEMU = shutil.which("qemu-system-arm")
# Devices of QEMU's that this board has not.
NOT_OURS = {"platform-bus@c000000", "fw-cfg@9020000", "gpio-keys", "pl061@9030000", "pcie@10000000", "pmu", "flash@0"}
PHANDLES = {"interrupt-parent", "clocks", "phandle", "cpu"}


def nodes(tree: bytes) -> dict[str, dict[str, bytes]]:
    """Every node's path with its properties' bytes."""
    found: dict[str, dict[str, bytes]] = {}

    def walk(node: fdt.Node, path: str) -> None:
        found[path or "/"] = {item.name: value(item) for item in node.props}
        for child in node.nodes:
            walk(child, f"{path}/{child.name}")

    walk(parse(tree)[0], "")
    return found


def value(item: fdt.Property) -> bytes:
    data, _, _ = item.to_dtb("")
    return bytes(data[12 : 12 + struct.unpack_from(">I", data, 4)[0]])


def word(data: bytes) -> int:
    return int.from_bytes(data, "big")


@pytest.mark.processes
@pytest.mark.skipif(QEMU is None, reason="qemu-system-arm is not here")
@pytest.mark.parametrize("vcpus", [2, 8])
def test_the_board_is_described_as_qemu_describes_it(tmp_path: Path, vcpus: int) -> None:
    file = tmp_path / "qemu.dtb"
    subprocess.run(
        [str(QEMU), "-M", f"virt,gic-version=2,dumpdtb={file}", "-cpu", "cortex-a15", "-smp", str(vcpus), "-m", "256"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    theirs, ours = nodes(file.read_bytes()), nodes(build(RunFacts(vcpus, MEMORY)))
    del ours["/aliases"]
    here = {path for path in theirs if path.split("/")[1] not in NOT_OURS and "v2m" not in path}
    assert set(ours) == here
    targets = {
        path: {word(tree[path]["phandle"]): path for path in tree if "phandle" in tree[path]}
        for path, tree in (("theirs", theirs), ("ours", ours))
    }
    for path in sorted(here):
        assert set(ours[path]) == set(theirs[path]), path
        for name, theirs_value in theirs[path].items():
            if name in ("rng-seed", "kaslr-seed"):
                assert len(ours[path][name]) == len(theirs_value)
            elif path == "/psci" and name == "compatible":
                assert theirs_value.endswith(ours[path][name])  # without 1.0
            elif name in PHANDLES:
                split = [
                    [targets[who][cell] for (cell,) in struct.iter_unpack(">I", held)]
                    for who, held in (("theirs", theirs_value), ("ours", ours[path][name]))
                ]
                assert split[0] == split[1], (path, name)
            else:
                assert ours[path][name] == theirs_value, (path, name)


@pytest.mark.parametrize("vcpus", [1, 8, 9, 128])
def test_every_vcpu_has_a_node_with_its_affinity(vcpus: int) -> None:
    tree = nodes(build(RunFacts(vcpus, MEMORY)))
    cpus = [properties for path, properties in tree.items() if path.startswith("/cpus/cpu@")]
    assert [word(cpu["reg"]) for cpu in cpus] == [board.mpidr(vcpu) & 0xFFFFFF for vcpu in range(vcpus)]
    assert all(cpu["enable-method"] == b"psci\0" for cpu in cpus)
    mapped = [
        word(held["cpu"])
        for path, held in tree.items()
        if path.startswith("/cpus/cpu-map/socket0/cluster") and "core" in path
    ]
    assert sorted(mapped) == sorted(word(cpu["phandle"]) for cpu in cpus)
    flags = {cells[2] for cells in struct.iter_unpack(">III", tree["/timer"]["interrupts"])}
    assert flags == {((1 << min(vcpus, 8)) - 1) << 8 | 4}


def test_the_blob_is_the_same_byte_for_byte() -> None:
    """Its nodes and properties are in QEMU's order, too: change this digest only together with the board."""
    digest = hashlib.sha256(build(RunFacts(2, MEMORY))).hexdigest()
    assert digest == "6d39296847706e351e51dcc709e9247a6655a7010b983944fc8b26b67ea68fed"


def test_what_the_run_gives_stands_in_chosen_and_equal_runs_have_equal_trees() -> None:
    facts = RunFacts(2, MEMORY, 'console=ttyAMA0 x="1"', (0x4800_0000, 0x4800_1234), seed=7)
    chosen = nodes(build(facts))["/chosen"]
    assert chosen["bootargs"] == b'console=ttyAMA0 x="1"\0' and chosen["stdout-path"] == b"/pl011@9000000\0"
    assert (word(chosen["linux,initrd-start"]), word(chosen["linux,initrd-end"])) == (0x4800_0000, 0x4800_1234)
    assert build(facts) == build(facts)
    other = nodes(build(RunFacts(2, MEMORY, seed=8)))["/chosen"]
    assert other["rng-seed"] != chosen["rng-seed"] and other["kaslr-seed"] != chosen["kaslr-seed"]
    assert not {"bootargs", "linux,initrd-start", "linux,initrd-end"} & set(other)


def own_tree(*, cells: int = 2, chosen: bool = True) -> fdt.Node:
    root = fdt.Node("/")
    root.set_property("#address-cells", cells)
    root.set_property("#size-cells", cells)
    root.set_property("compatible", ["mine,board", "linux,dummy-virt"])
    root.set_property("odd", b"\x01\x02\x03\xff\x00")
    for name in ("memory", "memory@80000000", "device@1"):
        root.append(fdt.Node(name))
    if chosen:
        node = fdt.Node("chosen")
        node.set_property("bootargs", "theirs")
        node.set_property("linux,initrd-start", 1)
        node.set_property("linux,initrd-end", 2)
        root.append(node)
    return root


@pytest.mark.parametrize("cells", [1, 2])
def test_a_tree_of_ones_own_is_kept_but_for_what_the_run_decides(cells: int) -> None:
    reserved = [{"address": 0x4000_0000, "size": 0x1000}]
    tree = blob(own_tree(cells=cells), reserved)
    for _ in range(2):  # the library keeps one list of reservations for all trees
        adapted = adapt(tree, RunFacts(1, MEMORY))
        assert list(parse(adapted)[1]) == reserved
    before, after = nodes(tree), nodes(adapted)
    assert after["/"] == before["/"] and "/device@1" in after
    assert [path for path in after if "memory" in path] == ["/memory@40000000"]
    assert after["/memory@40000000"]["reg"] == b"".join(
        number.to_bytes(4 * cells, "big") for number in (board.RAM_BASE, MEMORY)
    )
    assert after["/chosen"] == {"bootargs": b"theirs\0"}
    given_both = nodes(adapt(tree, RunFacts(1, MEMORY, "ours", (0x4200_0000, 0x4200_0001))))["/chosen"]
    assert given_both == {
        "bootargs": b"ours\0",
        "linux,initrd-start": bytes.fromhex("42000000"),
        "linux,initrd-end": bytes.fromhex("42000001"),
    }
    assert nodes(adapt(blob(own_tree(chosen=False)), RunFacts(1, MEMORY, "x")))["/chosen"] == {"bootargs": b"x\0"}


def test_nops_are_passed_over() -> None:
    tree = blob(own_tree())
    struct_at = word(tree[8:12])
    assert tree[struct_at : struct_at + 8] == bytes.fromhex("00000001 00000000")
    at, nop = struct_at + 8, bytes.fromhex("00000004")
    longer = bytearray(tree[:at] + nop * 3 + tree[at:])
    for field, more in ((4, 12), (12, 12), (36, 12)):  # total size, strings, size of the structure
        struct.pack_into(">I", longer, field, word(tree[field : field + 4]) + more)
    assert nodes(bytes(longer)) == nodes(tree)


def refusal(tree: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        adapt(tree, RunFacts(1, MEMORY))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_tree_is_told_from_one_that_is_damaged() -> None:
    tree = build(RunFacts(2, MEMORY))
    assert "magic number" in refusal(b"") and "magic number" in refusal(b"\x7fELF" + bytes(100))
    assert "dtc" in refusal(b"/dts-v1/;\n/ {};\n")
    assert "within its header" in refusal(tree[:39])
    assert f"says {len(tree)} bytes, there are {len(tree) - 1}" in refusal(tree[:-1])
    assert "version 3" in refusal(tree[:20] + struct.pack(">II", 3, 2) + tree[28:])
    assert "version 18" in refusal(tree[:20] + struct.pack(">II", 18, 17) + tree[28:])
    big = bytearray(tree + bytes(MAX_TREE_BYTES))
    struct.pack_into(">I", big, 4, len(big))
    assert "are the most" in refusal(bytes(big))
    begin = word(tree[8:12])
    end = begin + word(tree[36:40])
    assert "close" in refusal(tree[: end - 8] + bytes.fromhex("0000000900000009") + tree[end:])
    assert "close" in refusal(tree[: end - 4] + bytes.fromhex("00000002") + tree[end:])
    assert "unknown token" in refusal(tree[:begin] + bytes.fromhex("00000007") + tree[begin + 4 :])
    bare = fdt.Node("/")
    bare.append(fdt.Node("device"))
    assert "#address-cells" in refusal(blob(bare))
    deep = node = own_tree()
    for _ in range(80):
        node.append(child := fdt.Node("deeper"))
        node = child
    assert "nested deeper" in refusal(blob(deep))


SOUND = build(RunFacts(1, MEMORY, "console=ttyAMA0", (0x4800_0000, 0x4800_1000)))


@pytest.mark.fuzz
@given(st.data())
def test_no_damaged_tree_is_anything_but_taken_or_refused(data: st.DataObject) -> None:
    tree = bytearray(SOUND[: data.draw(st.integers(0, len(SOUND)) | st.just(len(SOUND)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if tree:
            at = data.draw(st.integers(0, min(len(tree), 600) - 1) | st.integers(0, len(tree) - 1))
            tree[at] = data.draw(st.integers(0, 255))
    try:
        taken = adapt(bytes(tree), RunFacts(1, MEMORY))
    except ImageError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert "/memory@40000000" in nodes(taken)


@pytest.mark.fuzz
@given(st.binary(max_size=200))
def test_no_bytes_are_anything_but_refused(data: bytes) -> None:
    refusal(data)
    refusal(b"\xd0\x0d\xfe\xed" + data)
