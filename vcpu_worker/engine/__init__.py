# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine: one ARMv7 vCPU at EL1/EL0, with this process as its EL2, over an unmodified libunicorn.

The extension must be in the process, globally, before the library: it takes the place of some of the library's
functions. So it is imported with RTLD_GLOBAL, and the library is found without importing the `unicorn` package.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def _load() -> None:
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    try:
        from allstop.vcpu_worker.engine import _engine
    finally:
        sys.setdlopenflags(flags)
    found = importlib.util.find_spec("unicorn")
    if found is None or found.origin is None:
        raise _engine.EngineError("the package unicorn is not installed: install unicorn==2.1.4")
    library = Path(found.origin).parent / "lib" / "libunicorn.so.2"
    _engine.open_library(str(library))


_load()

from allstop.vcpu_worker.engine._engine import *  # noqa: E402, F403
