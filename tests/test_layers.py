# SPDX-License-Identifier: GPL-2.0-or-later
"""The layers: imports point down only. The contract is in pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allstop.deploy.processes.processes import child_environment

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
MAX_LINES = 400
PARTS = ("coordinator", "deploy", "devicesrv", "gdbserver", "vcpu_worker", "vm")
"""The folders at the top that are packages of `allstop`, by links."""


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of the project in `folder` on the package there."""
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True)


def test_imports_point_down_only() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("allstop/race/bad.py", "import allstop.campaign.spec"),
        ("vm/arm/bad.py", "import allstop.vm.wire.codec"),
        ("vm/boot/bad.py", "import allstop.deploy.processes.members"),
        ("coordinator/bad.py", "import allstop.devicesrv.server.server"),
        ("devicesrv/bad.py", "import allstop.vcpu_worker.worker"),
        ("deploy/bad.py", "import allstop.cli.run"),
    ],
)
def test_an_import_that_points_up_or_across_is_found(tmp_path: Path, module: str, line: str) -> None:
    for part in ("allstop", *PARTS):
        left_out = shutil.ignore_patterns("__pycache__", "*.so", "*.c", "images")
        shutil.copytree(ROOT / part, tmp_path / part, symlinks=True, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module).write_text(line + "\n")
    done = check(tmp_path)
    importer = "allstop." + module.removeprefix("allstop/").removesuffix(".py").replace("/", ".")
    told = f"- {importer} -> {line.removeprefix('import ')}"
    assert done.returncode != 0 and told in done.stdout, done.stdout + done.stderr


def test_every_part_is_a_link_in_the_package() -> None:
    """A new folder at the top with Python in it must be linked, or it does not ship and no contract holds for it."""
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"allstop", "tests", "bench"}
    links = {path.name: os.readlink(path) for path in (ROOT / "allstop").iterdir() if path.is_symlink()}
    assert links == {part: f"../{part}" for part in found} | {"images": "../guests/images"}
    assert found == set(PARTS)


@pytest.mark.parametrize(
    "program",
    [
        "allstop.coordinator.service",
        "allstop.devicesrv.server.server",
        "allstop.vcpu_worker.worker",
        "allstop.deploy.run.launcher",
    ],
)
def test_a_program_on_one_host_loads_nothing_of_other_hosts(program: str) -> None:
    """Would break: a start that is a third longer, for a library of the connections between hosts."""
    source = f"import sys, {program}; print([name for name in ('asyncio', 'distributed') if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-P", "-c", source],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout == "[]\n"


def test_a_long_file_has_a_reason() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.py", "*.c", "*.h", "*.S"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git work tree")
    long = {name for name in tracked.stdout.split() if (ROOT / name).read_text().count("\n") > MAX_LINES}
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("### Long files")[2].partition("\n## ")[0]
    reasons = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)}
    assert long == reasons
