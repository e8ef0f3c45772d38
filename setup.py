# SPDX-License-Identifier: GPL-2.0-or-later
"""The two C extensions; everything else is in pyproject.toml."""
from setuptools import Extension, setup

FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
PAGE = "allstop/machine/control_page.h"

setup(
    ext_modules=[
        Extension(
            "allstop.machine.control", ["allstop/machine/control.c"], depends=[PAGE], extra_compile_args=FLAGS
        ),
    ]
)
