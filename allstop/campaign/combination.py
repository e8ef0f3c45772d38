# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of a campaign, as planned: what runs, under which options, which repetition. Pure data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from allstop.deploy.options.options import RunOptions
from allstop.vm.config.options import rows

Value = bool | int | str

# The options of the first stores. An identity leaves out any other option at its default, so that runs of before an
# option was added are still the same runs. Never add to this.
FIRST = (
    "vcpus",
    "fetch",
    "tlb",
    "decode",
    "memory",
    "parameter",
    "seed",
    "append",
    "keep_going",
    "pin",
    "virtio_console",
    "rng",
    "testdev",
    "virtio_legacy",
    "semihosting",
    "exit_status_line",
)
DEFAULTS: dict[str, Value] = {row.word: row.default for row in rows(RunOptions) if row.option.axis}
"""What a campaign may vary, with each option's default."""
ADDED: dict[str, Value] = {word: default for word, default in DEFAULTS.items() if word not in FIRST}


@dataclass(frozen=True)
class Combination:
    """`guest` and `scenario` are names for people ("none" is a run without events). `files` are digests of contents by
    their role: image, initrd, dtb, events. `options` are arguments of `Machine`, every axis among them. `timeout_s`
    counts from the guest's first instruction."""

    guest: str
    scenario: str
    files: dict[str, str]
    options: dict[str, Value]
    repetition: int
    timeout_s: float

    @cached_property
    def identity(self) -> str:
        """128 bits, as hex digits, of everything that decides what the run does; the names for people do not. A run
        keeps its identity when an option is added later."""
        options = {name: value for name, value in self.options.items() if name not in ADDED or value != ADDED[name]}
        decisive = {"files": self.files, "options": options, "repetition": self.repetition, "timeout_s": self.timeout_s}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """The form that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Combination:
        """Inverse of `to_json`, including an earlier version's. Raises ValueError, TypeError."""
        raw: dict[str, Any] = json.loads(text)
        missing = {name: value for name, value in ADDED.items() if name not in raw["options"]}
        return cls(**raw | {"options": raw["options"] | missing})

    def describe(self) -> str:
        """One line for a person, without switches that are off and without unused later options."""
        words = [self.guest, *([f"scenario={self.scenario}"] if self.scenario != "none" else [])]
        options = self.options | {"memory": f"{int(self.options['memory']) >> 20}M"}
        words += [
            f"{name}={value}"
            for name, value in options.items()
            if value is not False and value not in ("", ADDED.get(name, ""))
        ]
        return f"{' '.join(words)} repetition={self.repetition}"


def digest_of(content: bytes) -> str:
    """What a file is called in a campaign."""
    return hashlib.sha256(content).hexdigest()
