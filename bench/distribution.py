# SPDX-License-Identifier: GPL-2.0-or-later
"""A distribution's kernel, and an initial RAM disk whose init says that it runs.

    dpkg --add-architecture armhf && apt-get update     # once, as root
    python -m bench.peers --fetch-kernel DIR             # apt-get download and dpkg-deb -x, as any user

gives DIR/vmlinuz and DIR/initrd, from Debian's linux-image-armmp and busybox-static for armhf.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.running import PeerError

SAID_BY_INIT = "bench: init runs"
_PACKAGES = ("linux-image-armmp:armhf", "busybox-static:armhf")
_INIT = f"""#!/bin/busybox sh
/bin/busybox echo '{SAID_BY_INIT}' > /dev/console
/bin/busybox poweroff -f
"""
_CONSOLE = (5, 1)  # the device's major and minor number


def fetch(folder: Path) -> tuple[Path, Path]:
    """Put both files into `folder`, by apt-get; keep existing ones. Raises PeerError."""
    kernel, initrd = folder / "vmlinuz", folder / "initrd"
    if not (kernel.exists() and initrd.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", *_PACKAGES, _image_package()], folder)
        for package in sorted(folder.glob("*.deb")):
            _run(["dpkg-deb", "-x", package.name, "unpacked"], folder)
        found = sorted((folder / "unpacked" / "boot").glob("vmlinuz-*"))
        if not found:
            raise PeerError(f"there is no boot/vmlinuz-* in {folder / 'unpacked'}")
        initrd.write_bytes(archive((folder / "unpacked" / "bin" / "busybox").read_bytes()))
        shutil.copyfile(found[-1], kernel)
    return kernel, initrd


def archive(busybox: bytes, init: str = _INIT, files: Mapping[str, bytes] | None = None) -> bytes:
    """An initial RAM disk: busybox, a console, `files` by their paths, without folders of their own, and an init;
    else one that says SAID_BY_INIT and switches the machine off.

    Format: newc. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    entries: list[tuple[str, int, bytes, tuple[int, int]]] = [
        ("dev", stat.S_IFDIR | 0o755, b"", (0, 0)),
        ("bin", stat.S_IFDIR | 0o755, b"", (0, 0)),
        ("dev/console", stat.S_IFCHR | 0o600, b"", _CONSOLE),
        ("bin/busybox", stat.S_IFREG | 0o755, busybox, (0, 0)),
        ("init", stat.S_IFREG | 0o755, init.encode(), (0, 0)),
    ]
    entries += ((path, stat.S_IFREG | 0o644, data, (0, 0)) for path, data in (files or {}).items())
    entries.append(("TRAILER!!!", 0, b"", (0, 0)))
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _image_package() -> str:
    """The package with the kernel itself: what linux-image-armmp depends on at present."""
    for line in _run(["apt-cache", "depends", _PACKAGES[0]], Path.cwd()).splitlines():
        name = line.partition("Depends: ")[2]
        if name.startswith("linux-image-"):
            return name if ":" in name else f"{name}:armhf"
    raise PeerError(f"apt-cache knows no {_PACKAGES[0]}: dpkg --add-architecture armhf && apt-get update")


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
        )
    except OSError as error:
        raise PeerError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise PeerError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
    return done.stdout
