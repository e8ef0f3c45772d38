# SPDX-License-Identifier: GPL-2.0-or-later
"""What the launcher and the agents of other hosts agree on before they speak to each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version

BEAT_S = 0.5
CUT_OFF_EXIT_CODE = 3
"""The exit status of an agent that has not heard from the launcher for the deadline."""
_BEATS_IN_A_DEADLINE = 5


@dataclass(frozen=True)
class Bootstrap:
    """The one line that an agent reads from standard input: which host it is, its keys, and where the launcher is.

    `address` is the host's own. `deadline_s` is how long either side waits for a sign of life while the machine runs,
    `start_s` before that. `fence` is the run's: an agent of an earlier run is not taken for one of this run.
    """

    host: int
    address: str
    launcher: str
    launcher_key: str
    public: str
    secret: str
    fence: int
    deadline_s: float
    start_s: float

    def to_line(self) -> str:
        """The line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: bytes) -> Bootstrap:
        """Inverse of `to_line`. Raises ValueError or TypeError on anything else."""
        return cls(**json.loads(line))


def beat_s(deadline_s: float) -> float:
    """How often to send a sign of life to a peer that gives up after `deadline_s`."""
    return min(BEAT_S, deadline_s / _BEATS_IN_A_DEADLINE)


def engine() -> str:
    """The engine's library, by name and version."""
    return f"unicorn {version('unicorn')}"
