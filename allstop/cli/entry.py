# SPDX-License-Identifier: GPL-2.0-or-later
"""The command's entry: it loads the command before Python may turn Ctrl-C into an exception.

`deploy/bin/allstop` has restored SIGINT's default action before this package was imported: Ctrl-C while the rest loads
ends the process by SIGINT, which a shell shows as 130. A SIGINT that the caller ignores stays ignored.
"""

import _signal  # type: ignore[import-not-found]  # not in the stubs: `signal` hides it

_INTERRUPTED = 4
_handled = _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN
if _handled:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def main() -> int:
    """Load the command and run it; the exit status."""
    import sys

    from allstop.cli.main import load
    from allstop.cli.main import main as run

    load(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        try:
            if _handled:
                _signal.signal(_signal.SIGINT, _signal.default_int_handler)
            return run()
        finally:
            _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the command has ended: its exit status stands
    except KeyboardInterrupt:  # outside of `run`'s own handler, by an instruction or two
        return _INTERRUPTED
