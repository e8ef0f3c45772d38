# SPDX-License-Identifier: GPL-2.0-or-later
"""The committed guest images are what their sources build to, and are as small and as plain as they should be."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from allstop.vm.boot.images import symbols

pytestmark = pytest.mark.processes

GUESTS = Path(__file__).resolve().parents[2] / "guests"
IMAGES = GUESTS / "images"
NAMES = sorted(path.name for path in IMAGES.glob("*.elf"))
LOAD_ADDRESS = 0x4001_0000
RAM_END = 0x4400_0000
PT_LOAD = 1
WRITABLE, EXECUTABLE = 2, 1


def program_headers(image: bytes) -> list[tuple[int, ...]]:
    """The ELF32 program headers: type, offset, vaddr, paddr, file size, memory size, flags, alignment."""
    (offset,) = struct.unpack_from("<I", image, 28)
    size, count = struct.unpack_from("<HH", image, 42)
    return [struct.unpack_from("<8I", image, offset + size * k) for k in range(count)]


@pytest.fixture(scope="session")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of images that the sources build to now, with the compiler that made the committed ones."""
    for tool in ("make", "arm-none-eabi-gcc", "arm-none-eabi-objcopy"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    scratch = tmp_path_factory.mktemp("guests")
    recorded = (IMAGES / "COMPILER").read_text()
    compiler = "".join(
        subprocess.run(
            [f"arm-none-eabi-{tool}", "--version"], check=True, capture_output=True, text=True
        ).stdout.splitlines(keepends=True)[0]
        for tool in ("gcc", "ld")
    )
    if compiler != recorded:
        pytest.skip(f"the images were made by {recorded!r}, but {compiler!r} is installed")
    # The sources are copied, so that a path that slips into an image makes it differ.
    sources = scratch / "elsewhere"
    shutil.copytree(GUESTS, sources, ignore=shutil.ignore_patterns("build", "images"))
    made = subprocess.run(
        ["make", "-C", str(sources), f"O={scratch / 'objects'}", f"IMAGES={scratch / 'images'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return scratch / "images"


def test_rebuilding_gives_the_same_set_of_images(rebuilt: Path) -> None:
    """Would break: a guest whose image was forgotten, or an image whose source is gone."""
    assert sorted(path.name for path in rebuilt.glob("*.elf")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_rebuilding_gives_the_same_bytes(rebuilt: Path, name: str) -> None:
    """Would break: a source changed without `make -C guests`, or a build that is not reproducible."""
    assert (rebuilt / name).read_bytes() == (IMAGES / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_no_page_is_both_code_and_data(name: str) -> None:
    """Would break: a linker script that lets stores hit pages with code, which makes every guest slow."""
    headers = program_headers((IMAGES / name).read_bytes())
    loads = [header for header in headers if header[0] == PT_LOAD and header[5] > 0]
    pages: dict[int, int] = {}
    for _, _, vaddr, paddr, _, memory_bytes, flags, _ in loads:
        assert vaddr == paddr
        assert LOAD_ADDRESS <= vaddr <= vaddr + memory_bytes <= RAM_END
        for page in range(vaddr >> 12, (vaddr + memory_bytes + 0xFFF) >> 12):
            pages[page] = pages.get(page, 0) | flags
    assert loads
    assert not [page for page, flags in pages.items() if flags & WRITABLE and flags & EXECUTABLE]


@pytest.mark.parametrize("name", NAMES)
def test_images_have_symbols_and_no_more_and_are_small(name: str) -> None:
    """Would break: notes, debugging information or initialised data in an image; events name symbols."""
    image = (IMAGES / name).read_bytes()
    assert len(image) < (64 if name == "mmio.elf" else 20) * 1024
    for unwanted in (b".note", b".comment", b".debug"):
        assert unwanted not in image
    assert "_start" in symbols(image)
