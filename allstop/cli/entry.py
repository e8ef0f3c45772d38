# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed command's first module: Ctrl-C while the other modules are loading ends the command silently. Nothing
has started by then: the process dies of SIGINT, which a shell shows as 130. A SIGINT that the caller ignores (nohup, a
script's background job) stays ignored. The interpreter has `_signal` built in; `signal` is a file to find and read,
which takes long enough for a Ctrl-C.
"""

import _signal  # type: ignore[import-not-found]  # not in the stubs: `signal` hides it

_asked_for = _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN
if _asked_for:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
_INTERRUPTED = 4


def main() -> int:
    """Load the command and run it; the exit status."""
    import sys

    from allstop.cli.main import load
    from allstop.cli.main import main as run

    load(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        try:
            if _asked_for:
                _signal.signal(_signal.SIGINT, _signal.default_int_handler)
            return run()
        finally:
            _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # everything is done and reported: the exit status stands
    except KeyboardInterrupt:  # an instruction or two outside what `run` guards
        return _INTERRUPTED
