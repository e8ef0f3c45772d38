# SPDX-License-Identifier: GPL-2.0-or-later
"""hosts.toml: the hosts of a machine, and which vCPUs each of them has. Pure, except for reading the file.

    [machine]                # optional
    deadline_s = 5.0         # a host that is silent for so long is lost, and the run with it
    start_s = 20.0           # how long the hosts may take to answer at the start

    [[host]]
    name = "here"            # the first one is this host
    address = "10.0.0.1"     # under which the others reach it
    vcpus = 2                # how many vCPUs it has; hosts without this key share the rest evenly

    [[host]]
    name = "there"
    address = "10.0.0.2"
    ssh = "me@there"         # how to start its agent; or
    command = ["ip", "netns", "exec", "there"]    # a prefix to the agent's command line
    python = "/opt/allstop/bin/python"            # its interpreter with allstop; default: this one

ssh joins its arguments by spaces for the remote shell, so they are quoted for that. It passes no environment on, so the
interpreter there must have allstop installed.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allstop.vm.errors import UsageError

MAX_HOSTS = 32
DEADLINE_S = 5.0
START_S = 20.0
_KINDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ZONE = re.compile(r"[0-9A-Fa-f:.]+%[A-Za-z0-9._-]+")
_SSH = re.compile(r"[^-\s\0][^\s\0]*")
_PATH = re.compile(r"[^\0\n]+")
_LEAST_S, _MOST_S = 0.5, 3600.0
AGENT = ("-P", "-m", "allstop.deploy.hosts.agent")
_KEYS = {"name": str, "address": str, "vcpus": int, "ssh": str, "command": list, "python": str}


@dataclass(frozen=True)
class HostEntry:
    """One host. `vcpus` None: an equal share of the rest. `prefix` starts commands there, `python` runs the agent."""

    name: str
    address: str
    vcpus: int | None = None
    prefix: tuple[str, ...] = ()
    python: str = sys.executable
    by_ssh: bool = False
    arguments: tuple[str, ...] = AGENT

    @property
    def command(self) -> tuple[str, ...]:
        """The command line that starts the host's agent. ssh joins its arguments by spaces, for the remote shell."""
        words = (self.python, *self.arguments)
        return (*self.prefix, *(map(shlex.quote, words) if self.by_ssh else words))


@dataclass(frozen=True)
class HostsFile:
    """A hosts file: the hosts, this one first; how long a host may be silent while the machine runs, and how long its
    agent may take to start."""

    hosts: tuple[HostEntry, ...]
    deadline_s: float = DEADLINE_S
    start_s: float = START_S


def read_hosts(path: Path) -> HostsFile:
    """The hosts in a file. Raises UsageError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the hosts in {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    return parse_hosts(raw, str(path))


def parse_hosts(raw: Mapping[str, Any], source: str) -> HostsFile:
    """The hosts in parsed TOML. Raises UsageError."""
    unknown = sorted(raw.keys() - {"host", "machine"})
    if unknown:
        raise UsageError(
            f"{source}: unknown key {unknown[0]!r}: a hosts file has [[host]] tables and an optional [machine]"
        )
    tables = raw.get("host", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{source}: hosts are written as [[host]] tables")
    if not 2 <= len(tables) <= MAX_HOSTS:
        raise UsageError(f"{source}: a machine has 2 to {MAX_HOSTS} hosts, not {len(tables)}")
    hosts = tuple(_entry(table, place, source) for place, table in enumerate(tables))
    for what, values in (("name", [host.name for host in hosts]), ("address", [host.address for host in hosts])):
        twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
        if twice is not None and not (what == "address" and ipaddress.ip_address(twice).is_loopback):
            raise UsageError(f"{source}: two hosts have the {what} {twice}")
    return HostsFile(hosts, **_seconds(raw.get("machine", {}), source))


def place_vcpus(hosts: tuple[HostEntry, ...], vcpus: int) -> tuple[int, ...]:
    """For each vCPU the number of its host; a host's vCPUs are consecutive. Raises UsageError."""
    asked = sum(host.vcpus or 0 for host in hosts)
    open_ = [number for number, host in enumerate(hosts) if host.vcpus is None]
    if asked > vcpus or (asked < vcpus and not open_):
        raise UsageError(f"the hosts file asks for {asked} vCPUs and the machine has {vcpus}: change one of them")
    counts = [host.vcpus or 0 for host in hosts]
    for rank, number in enumerate(open_):
        counts[number] = (vcpus - asked + len(open_) - 1 - rank) // len(open_)
    return tuple(number for number, count in enumerate(counts) for _ in range(count))


def _seconds(table: Any, source: str) -> dict[str, float]:
    if not isinstance(table, dict):
        raise UsageError(f"{source}: machine must be a table, [machine], not {table!r}")
    for key, value in table.items():
        if key not in ("deadline_s", "start_s"):
            raise UsageError(f"{source}: [machine] has the unknown key {key!r}: choose deadline_s or start_s")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not _LEAST_S <= value <= _MOST_S:
            raise UsageError(
                f"{source}: [machine]: {key} must be a number of seconds, {_LEAST_S:g} to {_MOST_S:g}, not {value!r}"
            )
    return {key: float(value) for key, value in table.items()}


def _entry(table: Mapping[str, Any], place: int, source: str) -> HostEntry:
    where = f"{source}: host {table.get('name', place + 1)!r}"
    for key, value in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            raise UsageError(f"{where} has the unknown key {key!r}: choose from {', '.join(_KEYS)}")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{where}: {key} must be {_KINDS[kind]}, not {value!r}")
    name = table.get("name", "")
    if name and (not _NAME.fullmatch(name) or name == "journal" or name.endswith((".log", ".json", ".jsonl"))):
        raise UsageError(
            f"{where}: name must be letters, digits, dots, dashes and underlines, at most 63, and not the "
            "name of a file of the run folder"
        )
    for key in ("name", "address"):
        if not table.get(key):
            raise UsageError(f"{where} has no {key}")
    try:
        address = ipaddress.ip_address(table["address"])
    except ValueError:
        raise UsageError(f"{where}: the address must be one such as 10.0.0.1, not {table['address']!r}") from None
    if "%" in table["address"] and not _ZONE.fullmatch(table["address"]):
        raise UsageError(f"{where}: the address must be one such as 10.0.0.1, not {table['address']!r}")
    if address.is_unspecified or address.is_multicast:
        raise UsageError(f"{where}: other hosts cannot reach it under {address}")
    words = table.get("command", [])
    if not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise UsageError(f"{where}: command must be a list of words")
    if "ssh" in table and "command" in table:
        raise UsageError(f"{where} has both ssh and command: give one of them")
    if not _SSH.fullmatch(table.get("ssh", "x")):
        raise UsageError(f"{where}: ssh must be a destination such as me@there, not {table['ssh']!r}")
    if not _PATH.fullmatch(table.get("python", sys.executable)):
        raise UsageError(f"{where}: python must be the path of an interpreter, not {table['python']!r}")
    if place == 0 and ("ssh" in table or "command" in table):
        raise UsageError(f"{where} is the first, which is this host: it takes neither ssh nor command")
    if table.get("vcpus", 0) < 0:
        raise UsageError(f"{where}: vcpus must be 0 or more, not {table['vcpus']}")
    prefix = ("ssh", "-T", "-o", "BatchMode=yes", "--", table["ssh"]) if "ssh" in table else tuple(words)
    return HostEntry(
        table["name"], str(address), table.get("vcpus"), prefix, table.get("python", sys.executable), "ssh" in table
    )
