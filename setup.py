# SPDX-License-Identifier: GPL-2.0-or-later
"""The C extensions; everything else is in pyproject.toml.

Paths lead through `allstop/`, whose folders of the four programs and of the ground are links to the top of the
repository, so that a source distribution and a wheel hold each file once (docs/adr/0014).
"""

import importlib.util
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
    raise SystemExit(f"allstop needs Linux on x86-64; this is {sys.platform} on {platform.machine()}")

FLAGS = [
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fvisibility=hidden",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
]
SOURCES = {
    "allstop.vm.control.control": (
        "allstop/vm/control",
        ["control", "control_requests", "control_telemetry", "control_ledger"],
    ),
    "allstop.vm.journal.recorder": ("allstop/vm/journal", ["recorder"]),
    "allstop.vm.memory.guest_memory": ("allstop/vm/memory", ["guest_memory"]),
    "allstop.coordinator.node.memory.node_memory": (
        "allstop/coordinator/node/memory",
        ["node_memory", "node_pages", "node_requests"],
    ),
    "allstop.vcpu_worker.engine._engine": ("allstop/vcpu_worker/engine", ["**/*"]),
}
HEADERS = sorted(
    map(
        str,
        [
            *Path("allstop").glob("vm/*/*.h"),
            *Path("allstop").glob("coordinator/node/memory/*.h"),
            *Path("allstop").glob("vcpu_worker/engine/**/*.h"),
        ],
    )
)

unicorn = importlib.util.find_spec("unicorn")
if unicorn is None or unicorn.origin is None:
    raise SystemExit("unicorn's headers are needed to build the engine: pip install unicorn==2.1.4")

setup(
    ext_modules=[
        Extension(
            name,
            sorted(str(path) for source in sources for path in Path(folder).glob(f"{source}.c")),
            depends=HEADERS,
            include_dirs=["allstop", str(Path(unicorn.origin).parent / "include")],
            extra_compile_args=FLAGS,
            libraries=["dl"],
        )
        for name, (folder, sources) in SOURCES.items()
    ]
)
