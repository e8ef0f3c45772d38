# SPDX-License-Identifier: GPL-2.0-or-later
"""control.json: how an operator finds a run. It exists while the run lasts, and only its owner can read it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from allstop.deploy.outcome.run_folder import VERDICT_NAME
from allstop.deploy.outcome.verdict import Verdict
from allstop.vm.config.machine import MachineConfig
from allstop.vm.errors import UsageError

CONTROL_NAME = "control.json"
CONTROL_MODE = 0o600


@dataclass(frozen=True)
class ControlFile:
    """`endpoint` is the coordinator's, `token` (hex) opens it, `pid` is the launcher's. On a machine of several hosts,
    `hosts` names each vCPU's host, "" for the launcher's."""

    endpoint: str
    token: str
    pid: int
    vcpus: int
    hosts: tuple[str, ...] = ()

    @classmethod
    def of_machine(cls, config: MachineConfig) -> ControlFile:
        """The control file of a machine."""
        hosts = config.hosts
        names = () if hosts is None else tuple(hosts.names[host] if host else "" for host in hosts.vcpu_hosts)
        return cls(config.coordinator_endpoint, config.token, config.launcher_pid, config.vcpus, names)

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ControlFile:
        """Inverse of `to_json`. Raises ValueError, KeyError or TypeError on anything else."""
        raw = json.loads(text)
        control = cls(
            str(raw["endpoint"]),
            str(raw["token"]),
            int(raw["pid"]),
            int(raw["vcpus"]),
            tuple(str(name) for name in raw.get("hosts", ())),
        )
        bytes.fromhex(control.token)
        return control


def find_run(folder: Path) -> ControlFile:
    """The run that goes on in `folder`. Raises UsageError: the run is over, was killed, or never existed."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the folder that the --run-dir of a run named")
    _refuse_what_is_over(folder)
    try:
        control = ControlFile.from_json((folder / CONTROL_NAME).read_text())
    except FileNotFoundError:
        _refuse_what_is_over(folder)  # it may just have ended
        if any(folder.iterdir()) and _is_locked(folder):  # an empty folder may be about to be used by a run
            raise UsageError(f"the run in {folder} is still starting: try again") from None
        raise UsageError(
            f"{folder} is not a run folder, it holds no {CONTROL_NAME}: give the one that the --run-dir of a run named"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder / CONTROL_NAME} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{folder / CONTROL_NAME} is not a control file of a run") from None
    if not _is_locked(folder):
        _refuse_what_is_over(folder)
        raise UsageError(
            f"the run in {folder} is gone: its launcher (process {control.pid}) was killed before there was a verdict"
        )
    return control


def _refuse_what_is_over(folder: Path) -> None:
    try:
        verdict = Verdict.from_json((folder / VERDICT_NAME).read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"the run in {folder} is over, and its {VERDICT_NAME} cannot be read") from None
    raise UsageError(f"the run in {folder} is over: {verdict.verdict}: {verdict.sentence}")


def _is_locked(folder: Path) -> bool:
    """Whether a launcher holds the folder: its lock dies with it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
