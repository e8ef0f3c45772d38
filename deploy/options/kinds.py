# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of values that only the launcher needs: a console's place, a debugger's address, events."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allstop.deploy.options.console_place import PLACES, ConsolePlace
from allstop.deploy.options.gdb_address import GdbAddress, gdb_address
from allstop.vm.config.kinds import Kind
from allstop.vm.config.paths import path_of, shown
from allstop.vm.errors import UsageError
from allstop.vm.events.scenario import Scenario, ScenarioError, parse
from allstop.vm.events.vocabulary import EventError, event

EVENTS_JSON_FLAG = "--events-json"


class Console(Kind):
    """Where the guest's console is."""

    allowed = f"one of {', '.join(PLACES)}"

    def accept(self, what: str, value: Any) -> ConsolePlace:
        return ConsolePlace.parse(value)

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, ConsolePlace):
            raise UsageError(f"the {what} must be a ConsolePlace, not {shown(value)}")

    def public(self, value: Any) -> Any:
        return str(value)


class Gdb(Kind):
    """Where a debugger may connect."""

    allowed = "[HOST]:PORT"

    def accept(self, what: str, value: Any) -> GdbAddress:
        return gdb_address(value)

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, GdbAddress):
            raise UsageError(f"the {what} must be a GdbAddress, not {shown(value)}")


class Events(Kind):
    """A scenario: its file, or its events as mappings."""

    annotation = "str | os.PathLike[str] | Sequence[Mapping[str, Any]]"
    allowed = "a scenario's file"

    def read(self, what: str, text: Any) -> Scenario:
        return text if isinstance(text, Scenario) else scenario(path_of("scenario", text))

    def accept(self, what: str, value: str | os.PathLike[str] | Sequence[Mapping[str, Any]]) -> Scenario:
        if isinstance(value, (str, os.PathLike)):
            return scenario(path_of("scenario", value))
        try:
            return Scenario(tuple(event(raw, number) for number, raw in enumerate(value, 1)))
        except (EventError, ScenarioError, TypeError, AttributeError) as error:
            raise UsageError(f"the events cannot be as they are: {error}") from None

    def check(self, what: str, value: Any) -> None:
        if not isinstance(value, Scenario):
            raise UsageError(f"the {what} must be a Scenario, not {shown(value)}")

    def public(self, value: Any) -> Any:
        return ()

    def arguments(self, flag: str, value: Any) -> list[str]:
        return [f"{EVENTS_JSON_FLAG}={value.to_json()}"]


def add_events_json(parser: argparse.ArgumentParser) -> None:
    """The hidden flag by which `Machine` hands events to its launcher."""
    parser.add_argument(EVENTS_JSON_FLAG, dest="events", type=Scenario.from_json, help=argparse.SUPPRESS)


def scenario(path: Path) -> Scenario:
    """The scenario in a file. Raises UsageError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ScenarioError):
            raise UsageError(str(error)) from None
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UsageError(f"the scenario {path} cannot be read: {why}") from None
