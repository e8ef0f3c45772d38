# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of options: one more row is all that one more option needs."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allstop.cli import generated
from allstop.deploy.options.options import RunOptions
from allstop.vm.config.machine import HostsSpec, MachineConfig, SharedFds
from allstop.vm.config.options import GuestOptions, of_python, rows, to_arguments
from allstop.vm.errors import UsageError

ROOT = Path(__file__).parents[3]
ROW = """    frobnication: int = option(
        3, Whole(1, 9), "frobnication", "how much the guest is frobnicated", "N", axis=True
    )
"""
LOOK = """
import inspect, json
from pathlib import Path
from allstop import Machine
from allstop.campaign.combination import ADDED
from allstop.campaign.spec import AXES
from allstop.cli import generated
from allstop.deploy.options.options import RunOptions
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.config.options import to_arguments
options = RunOptions(Path("x"), frobnication=4)
config = MachineConfig(**options.told(), token="", coordinator_endpoint="", devices_endpoint="",
                       fds=SharedFds(-1, -1, -1), cores=1)
print(json.dumps({
    "api": inspect.signature(Machine).parameters["frobnication"].default,
    "types": "    frobnication: int\\n" in generated.machine_arguments(),
    "readme": "| `--frobnication N` | how much the guest is frobnicated (default 3) |" in generated.readme_table(),
    "axis": [AXES["frobnication"].default, ADDED["frobnication"]],
    "page": "`frobnication`" in generated.campaign_with_axes("| `[axes]` | |"),
    "config": MachineConfig.from_json(config.to_json()).frobnication,
    "launcher": to_arguments(options),
}))
"""


@pytest.mark.processes
@pytest.mark.processes
def test_a_row_is_all_that_an_option_needs(tmp_path: Path) -> None:
    """It is in the command's help and checks, the API, campaigns, README's check, and every process is told."""
    for package in ("allstop", "coordinator", "deploy", "devicesrv", "gdbserver", "vcpu_worker", "vm"):
        shutil.copytree(
            ROOT / package, tmp_path / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.c")
        )
    table = tmp_path / "vm" / "config" / "options.py"
    before = table.read_text()
    place = before.index("    append: str = option(")
    table.write_text(before[:place] + ROW + before[place:])
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    seen = json.loads(said("-c", LOOK).stdout)
    assert seen == {
        "api": 3,
        "types": True,
        "readme": True,
        "axis": [3, 3],
        "page": True,
        "config": 4,
        "launcher": ["--frobnication=4"],
    }
    assert "how much the guest is frobnicated (default 3)" in " ".join(
        said("-m", "allstop", "run", "--help").stdout.split()
    )
    refused = said("-m", "allstop", "run", "x", "--frobnication", "10")
    assert refused.returncode == 2 and "the frobnication must be 1 to 9, not 10" in refused.stderr


def test_what_is_generated_from_the_table_is_current() -> None:
    assert (ROOT / generated.TYPES).read_text() == generated.machine_arguments(), "run python -m allstop.cli.generated"
    text = (ROOT / generated.README).read_text()
    assert generated.readme_with(text, generated.readme_table()) == text, "run python -m allstop.cli.generated"
    text = (ROOT / generated.CAMPAIGN).read_text()
    assert generated.campaign_with_axes(text) == text, "run python -m allstop.cli.generated"


def test_every_row_has_its_own_names() -> None:
    table = rows(RunOptions)
    for names in ([row.word for row in table], [row.flag for row in table], [row.field for row in table]):
        assert len(set(names)) == len(names)
    fields = {row.field for row in table}
    for row in table:
        assert {row.option.needs, row.option.excludes} - {""} <= fields
        assert row.option.help and row.option.what


@pytest.mark.parametrize("row", rows(RunOptions), ids=lambda row: row.word)
def test_what_python_may_give_is_what_the_signature_says(row: object) -> None:
    """Every default, as the signature shows it, is accepted, and means the default."""
    public = row.kind.public(row.default)  # type: ignore[attr-defined]
    word = row.word  # type: ignore[attr-defined]
    values = of_python(RunOptions, {word: public})
    assert values.get(row.field, row.default) == row.default  # type: ignore[attr-defined]


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="no option 'vcpu'"):
        of_python(RunOptions, {"vcpu": 1})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"journal": True}, "--journal requires --run-dir"),
        ({"gdb_wait": True}, "--gdb-wait requires --gdb"),
        ({"semihosting_dir": Path("/")}, "--semihosting-dir requires --semihosting"),
        ({"cluster_hosts": 2}, "--cluster-hosts requires --cluster"),
        ({"cluster": "tcp://x:1", "hosts": Path("h")}, "--hosts and --cluster exclude each other"),
    ],
)
def test_what_an_option_needs(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        RunOptions(Path("guest.elf"), **given)  # type: ignore[arg-type]


def test_the_launcher_is_asked_for_the_same(tmp_path: Path) -> None:
    """Whatever Python is given, its launcher's command line means, too."""
    from argparse import ArgumentParser

    from allstop.cli.run import add_arguments
    from allstop.vm.config.options import of_arguments

    (tmp_path / "d.py").write_text("")
    (tmp_path / "disk").write_bytes(bytes(512))
    asked = RunOptions(
        Path("guest.elf"),
        **of_python(
            RunOptions,
            {
                "vcpus": 3,
                "memory": "128M",
                "timeout": 2.5,
                "load": 0x4000_0000,
                "append": "a -b",
                "devices": [f"{tmp_path}/d.py:D@0x0c000000"],
                "drives": [f"{tmp_path}/disk,ro"],
                "events": [{"action": "flush-tlb", "at_ms": 5}],
                "console": "file:out",
                "pin": True,
                "gdb": ":0",
            },
        ),
    )
    parser = ArgumentParser()
    add_arguments(parser)
    parsed = parser.parse_args([*to_arguments(asked), "--", "guest.elf"])
    assert RunOptions(parsed.image, **of_arguments(RunOptions, parsed)) == asked


def test_other_hosts_are_not_told_what_stays() -> None:
    options = RunOptions(Path("x"), vcpus=2, append="root=/dev/vda")
    config = MachineConfig(
        **options.told(),
        token="t",
        coordinator_endpoint="",
        devices_endpoint="",
        fds=SharedFds(1, 2, 3),
        cores=2,
        run_dir="/r",
        launcher_pid=5,
    )
    hosts = HostsSpec(1, ("a", "b"), (0, 1), ("x", "y"), "s", -1, (), "tcp://c", "tcp://d")
    plan = MachineConfig.from_json(config.for_host(hosts).to_json())
    assert (plan.append, plan.run_dir, plan.launcher_pid, plan.fds.ram) == ("", "", 0, -1)
    assert (plan.vcpus, plan.coordinator_endpoint, plan.hosts) == (2, "tcp://c", hosts)
    assert {row.field for row in rows(GuestOptions) if row.option.stays} == {"append", "devices", "drives"}


def test_types_are_python() -> None:
    ast.parse(generated.machine_arguments())
