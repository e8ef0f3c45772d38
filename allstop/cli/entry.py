# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed command's first module: Ctrl-C while the rest is still being loaded ends it in silence.

Nothing has been started then. A SIGINT that the caller ignores stays ignored.
"""
import signal

_asked_for = signal.getsignal(signal.SIGINT)
if _asked_for is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Load the command and run it; the exit status."""
    from allstop.cli.main import main as run

    if _asked_for is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
