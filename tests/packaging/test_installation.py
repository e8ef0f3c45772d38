# SPDX-License-Identifier: GPL-2.0-or-later
"""An installation: what a source distribution and a wheel hold, and that the wheel works from another folder.

Would break: guests that are not found, a package beside `allstop`, a user's own folder that hides one of ours.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from allstop.vm.boot.bundled import GUESTS
from allstop.vm.version import __version__

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LINKED = ("coordinator", "deploy", "devicesrv", "gdbserver", "vcpu_worker", "vm")
OF_THE_USER = ("deploy", "stress", "coordinator", "vm", "tests")
LEFT_OUT = shutil.ignore_patterns(".*", "build", "demo", "dist", "*.egg-info", "__pycache__", "*.so", "*.o")
DEADLINE_S = 300.0
USERS_PROGRAM = """
from allstop import Machine, Verdict

def run() -> Verdict:
    with Machine(image="hello", vcpus=2, timeout=30) as machine:
        return machine.wait()

print(run().verdict)
"""


def execute(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user's shell does, who knows nothing of this tree; it must pass."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        tuple(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def build(folder: Path) -> None:
    """The source distribution, the wheel made of it, the wheel made of the tree; the former wheel installed."""
    tree, unpacked = folder / "tree", folder / "unpacked"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=LEFT_OUT)
    setup = ("-W", "ignore", "setup.py", "-q")
    execute(sys.executable, *setup, "sdist", "-d", folder / "sdist", cwd=tree)
    (archive,) = (folder / "sdist").iterdir()
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    execute(sys.executable, *setup, "bdist_wheel", "-d", folder / "wheel", cwd=source)
    execute(sys.executable, *setup, "bdist_wheel", "-d", folder / "wheel-of-tree", cwd=tree)
    (wheel,) = (folder / "wheel").iterdir()
    execute(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    execute(folder / "venv" / "bin" / "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=folder)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of it, made once for all of pytest's workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installation"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            build(folder)
            (folder / "done").touch()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The user's folder; it has packages of the user's with names that this tree uses, too."""
    for name in OF_THE_USER:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('a package of the user')\n")
    return tmp_path


def sources(suffixes: tuple[str, ...]) -> set[str]:
    """The package's files with these suffixes, by the names under which it is imported."""
    found = [path for path in (ROOT / "allstop").rglob("*") if path.suffix in suffixes]
    for name in LINKED:
        found += [
            ROOT / "allstop" / path.relative_to(ROOT) for path in (ROOT / name).rglob("*") if path.suffix in suffixes
        ]
    return {str(path.relative_to(ROOT)) for path in found}


def test_the_source_distribution_holds_each_file_once(installed: Path) -> None:
    (archive,) = (installed / "sdist").iterdir()
    with tarfile.open(archive) as opened:
        names = [member.name.partition("/")[2] for member in opened if not member.isdir()]
        assert not [member.name for member in opened if member.issym() or member.islnk()]
    assert max(Counter(names).values()) == 1
    wanted = sources((".py", ".pyi", ".c", ".h", ".css", ".js")) | {f"allstop/images/{name}.elf" for name in GUESTS}
    assert wanted <= set(names), wanted - set(names)
    beside = {name for name in names if "/" in name and not name.startswith(("allstop/", "allstop.egg-info/"))}
    assert beside == {"deploy/bin/allstop"}


@pytest.mark.parametrize("folder", ["wheel", "wheel-of-tree"])
def test_the_wheel_holds_one_package(installed: Path, folder: str) -> None:
    (wheel,) = (installed / folder).iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "allstop",
        f"allstop-{__version__}.data",
        f"allstop-{__version__}.dist-info",
    }
    package = {name for name in names if name.startswith("allstop/")}
    wanted = sources((".py", ".pyi", ".css", ".js")) | {f"allstop/images/{name}.elf" for name in GUESTS}
    wanted |= {"allstop/py.typed", "allstop/images/COMPILER"}
    extensions = {name for name in package if name.endswith(".so")}
    assert package - extensions == wanted
    assert len(extensions) == 5


def test_the_command_works_beside_a_users_own_packages(installed: Path, elsewhere: Path) -> None:
    program = installed / "venv" / "bin" / "allstop"
    said = execute(program, "run", "hello", "--vcpus", 2, "--json", cwd=elsewhere)
    assert json.loads(said.stdout)["verdict"] == "pass"
    execute(installed / "venv" / "bin" / "python", "-m", "allstop", "run", "hello", "--quiet", cwd=elsewhere)


def test_the_api_works_beside_a_users_own_packages(installed: Path, elsewhere: Path) -> None:
    (elsewhere / "users.py").write_text(USERS_PROGRAM)
    assert execute(installed / "venv" / "bin" / "python", "users.py", cwd=elsewhere).stdout == "pass\n"


def test_the_demo_and_the_gate_find_their_guests(installed: Path, elsewhere: Path) -> None:
    program = installed / "venv" / "bin" / "allstop"
    execute(program, "race", "--fetch", "unprotected,stop-world,validate", "--page", "race.html", cwd=elsewhere)
    assert "stop-world" in (elsewhere / "race.html").read_text()
    execute(program, "conformance", "--runs", 1, cwd=elsewhere)


def test_the_installed_package_is_typed(installed: Path, elsewhere: Path) -> None:
    """`py.typed` and the stubs ship: a user's strictly typed program passes, and a mistake in it is found."""
    pytest.importorskip("mypy")
    (elsewhere / "users.py").write_text(USERS_PROGRAM)
    mypy = (sys.executable, "-P", "-m", "mypy", "--python-executable", installed / "venv" / "bin" / "python")
    execute(*mypy, "--strict", "--cache-dir", elsewhere / "cache", "users.py", cwd=elsewhere)
    (elsewhere / "users.py").write_text(USERS_PROGRAM.replace("vcpus=2", 'vcpus="two"'))
    with pytest.raises(AssertionError, match='incompatible type "str"'):
        execute(*mypy, "--strict", "--cache-dir", elsewhere / "cache", "users.py", cwd=elsewhere)


@pytest.mark.parametrize(
    ("change", "named"),
    [("sys.platform = 'darwin'", "darwin on x86_64"), ("platform.machine = lambda: 'aarch64'", "linux on aarch64")],
)
def test_another_platform_is_refused_in_one_sentence(tmp_path: Path, change: str, named: str) -> None:
    code = f"import platform, setuptools, sys; {change}; exec(compile(open(sys.argv[1]).read(), 'setup.py', 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "setup.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"allstop needs Linux on x86-64; this is {named}\n"
