# SPDX-License-Identifier: GPL-2.0-or-later
"""The five C extensions; everything else is in pyproject.toml."""
import importlib.util
from pathlib import Path

from setuptools import Extension, setup

FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
PAGE = "allstop/machine/control_page.h"
LEDGER = "allstop/machine/access_ledger.h"
JOURNAL = "allstop/machine/journal.h"
PAGES = ["allstop/machine/stage2_entry.h", "allstop/machine/swap_file.h", "allstop/machine/mapped_machine.h"]
ENGINE = "vcpu_worker/engine"
ENGINE_SOURCES = ["module", "vcpu", "exits", "requests", "turns", "state", "stage2", "swap", "seam",
                  "seam_library", "seam_access", "seam_poll", "seam_reading", "seam_registers", "seam_walk",
                  "seam_watch", "seam_coprocessors", "semihosting", "timers", "undefined"]
ENGINE_HEADERS = ["vcpu", "architecture", "seam", "seam_library", "seam_access", "seam_poll", "seam_reading",
                  "seam_registers", "seam_walk", "seam_watch", "seam_coprocessors", "seam_description", "timers",
                  "facts"]

unicorn = importlib.util.find_spec("unicorn")
if unicorn is None or unicorn.origin is None:
    raise SystemExit("unicorn's headers are needed to build the engine: pip install unicorn==2.1.4")

setup(
    ext_modules=[
        Extension(
            "allstop.machine.control", ["allstop/machine/control.c"], depends=[PAGE, LEDGER], extra_compile_args=FLAGS
        ),
        Extension(
            "allstop.machine.recorder", ["allstop/machine/recorder.c"], depends=[JOURNAL], extra_compile_args=FLAGS
        ),
        Extension(
            "allstop.machine.guest_memory", ["allstop/machine/guest_memory.c"], depends=[PAGE, LEDGER, *PAGES],
            extra_compile_args=FLAGS,
        ),
        Extension(
            "allstop.machine.node_memory",
            [f"allstop/machine/{name}.c" for name in ("node_memory", "node_pages", "node_requests")],
            depends=[PAGE, LEDGER, *PAGES, "allstop/machine/node_memory.h"],
            extra_compile_args=FLAGS,
        ),
        Extension(
            "vcpu_worker.engine._engine",
            [f"{ENGINE}/{name}.c" for name in ENGINE_SOURCES],
            depends=[PAGE, LEDGER, JOURNAL, *PAGES, *(f"{ENGINE}/{name}.h" for name in ENGINE_HEADERS)],
            include_dirs=[str(Path(unicorn.origin).parent / "include")],
            extra_compile_args=FLAGS,
            libraries=["dl"],
        ),
    ]
)
