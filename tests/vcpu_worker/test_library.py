# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine works with one build of the library and refuses every other, each in one sentence that says what to do."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from allstop.deploy.processes.processes import child_environment
from allstop.vcpu_worker.engine import facts

pytestmark = pytest.mark.processes

spec = importlib.util.find_spec("unicorn")
assert spec is not None and spec.origin is not None
LIBRARY = Path(spec.origin).parent / "lib" / "libunicorn.so.2"

OPEN = """
import os, sys
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
sys.modules["allstop.vcpu_worker.engine"] = type(sys)("allstop.vcpu_worker.engine")
sys.modules["allstop.vcpu_worker.engine"].__path__ = [sys.argv[2]]
from allstop.vcpu_worker.engine import _engine
for attempt in range(2):
    try:
        _engine.open_library(sys.argv[1])
        print("opened")
    except _engine.EngineError as error:
        print(error)
try:
    _engine.Vcpu(-1, -1, -1, 0, 0)
except (_engine.EngineError, OSError) as error:
    print(error)
"""


def python(script: str, *arguments: object) -> list[str]:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def open_library(path: Path) -> str:
    """What the engine says of the library at `path`: always the same, and no vCPU comes of it."""
    first, second, vcpu = python(OPEN, path, Path(__file__).parents[2] / "vcpu_worker" / "engine")
    assert first == second and (first == "opened" or vcpu == first)
    return first


def symbols(image: bytes) -> dict[str, tuple[int, int]]:
    """Offset in the file and size of each function that an ELF64 library exports. Source: elf(5)."""
    headers, count = struct.unpack_from("<Q", image, 40)[0], struct.unpack_from("<H", image, 60)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, headers + 64 * i) for i in range(count)]
    loaded = [(at, offset, size) for _, kind, flags, at, offset, size, *_ in sections if flags & 2 and kind != 8]
    found = {}
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind != 11:  # SHT_DYNSYM
            continue
        strings = sections[link][4]
        for at in range(offset, offset + size, 24):
            name, info, _, _, value, length = struct.unpack_from("<IBBHQQ", image, at)
            if info & 15 != 2 or not length:
                continue
            place = next(o + value - a for a, o, s in loaded if a <= value < a + s)
            found[image[strings + name : image.index(b"\0", strings + name)].decode()] = (place, length)
    return found


@pytest.fixture(scope="module")
def image() -> bytes:
    """The library."""
    return LIBRARY.read_bytes()


@pytest.fixture(scope="module")
def functions(image: bytes) -> dict[str, tuple[int, int]]:
    """Its functions."""
    return symbols(image)


def test_every_fact_holds() -> None:
    known = facts()
    assert len(known) == len({name for name, _, _ in known}) > 30
    assert [name for name, expected, found in known if expected != found] == []


def test_facts_are_about_functions_of_the_library(functions: dict[str, tuple[int, int]]) -> None:
    assert {name for name, _, _ in facts()} <= functions.keys()


@pytest.mark.parametrize("index", [0, len(facts()) // 2, len(facts()) - 1])
@pytest.mark.parametrize("end", ["first byte", "last byte"])
def test_another_build_is_refused(
    image: bytes, functions: dict[str, tuple[int, int]], tmp_path: Path, index: int, end: str
) -> None:
    name = facts()[index][0]
    offset, size = functions[name]
    changed = bytearray(image)
    changed[offset if end == "first byte" else offset + size - 1] ^= 0x40
    path = tmp_path / "libunicorn.so.2"
    path.write_bytes(changed)
    assert open_library(path) == (
        f"the library calls itself unicorn 2.1.4 but its function {name} is not the one that the engine knows: "
        "install the x86-64 Linux wheel of unicorn==2.1.4 from PyPI"
    )


def test_what_nobody_relies_on_may_differ(image: bytes, functions: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    offset, size = functions["tcg_func_start_x86_64"]
    changed = bytearray(image)
    changed[offset + size - 1] ^= 0x40
    path = tmp_path / "libunicorn.so.2"
    path.write_bytes(changed)
    assert open_library(path) == "opened"


def test_another_version_is_refused(image: bytes, functions: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    offset, size = functions["uc_version"]
    changed = bytearray(image)
    version = changed.index(bytes((255, 4, 1, 2)), offset, offset + size)
    changed[version + 1] = 3
    path = tmp_path / "libunicorn.so.2"
    path.write_bytes(changed)
    assert open_library(path) == "this is unicorn 2.1.3 and the engine knows 2.1.4 only: install unicorn==2.1.4"


def test_no_library_is_refused(tmp_path: Path) -> None:
    sentence = open_library(tmp_path / "nothing.so")
    assert "cannot be loaded" in sentence and "reinstall unicorn==2.1.4" in sentence


def test_unicorn_must_not_come_first() -> None:
    script = """
import unicorn
for attempt in range(2):
    try:
        import allstop.vcpu_worker.engine
        print("imported")
    except RuntimeError as error:
        print(error)
"""
    assert (
        python(script)
        == [
            "unicorn was loaded before the engine, which must come first: import allstop.vcpu_worker.engine "
            "before unicorn"
        ]
        * 2
    )


def test_unicorn_may_come_afterwards() -> None:
    """And works as shipped: what the engine replaces is for the engine's own vCPU."""
    script = """
import allstop.vcpu_worker.engine, unicorn
from unicorn import arm_const
uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM)
uc.mem_map(0x1000, 0x1000)
uc.mem_write(0x1000, bytes.fromhex("010080e2" "0000a0e1" "010080e2"))  # add r0, r0, #1; nop; add r0, r0, #1
uc.emu_start(0x1000, 0x100c)
print(uc.reg_read(arm_const.UC_ARM_REG_R0))
uc.emu_start(0x1000, 0x100c, count=2)
print(uc.reg_read(arm_const.UC_ARM_REG_R0))
"""
    assert python(script) == ["2", "3"]
