# SPDX-License-Identifier: GPL-2.0-or-later
"""What deploy/ and the documentation tell users to type is what the programs take."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_packages

from allstop.campaign.spec import read_spec
from allstop.cli.main import _parser
from tests.campaign.conftest import ROOT, commands_of

DEPLOY = ROOT / "deploy"
FILES = sorted(
    path.relative_to(DEPLOY) for folder in ("container", "kubernetes", "slurm") for path in (DEPLOY / folder).iterdir()
)


def documents(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="YAML comes with Dask: pip install 'allstop[cluster]'")
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def parsed(words: list[str]) -> None:
    """Raises unless the program that is named takes the words behind it."""
    if words[0] == "allstop":
        try:
            _parser().parse_args(words[1:])
        except SystemExit as left:  # --help
            assert left.code == 0
        return
    pytest.importorskip("distributed", reason="Dask distributed is not installed")
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    assert words[0] == "dask"
    {"scheduler": scheduler, "worker": worker}[words[1]].make_context(words[1], list(words[2:]))


def test_these_files_are_looked_at() -> None:
    assert [str(path) for path in FILES] == [
        "container/Containerfile",
        "kubernetes/campaign.yaml",
        "kubernetes/scheduler.yaml",
        "kubernetes/workers.yaml",
        "slurm/campaign.sbatch",
    ]


@pytest.mark.parametrize("name", [path.name for path in FILES if path.suffix == ".yaml"])
def test_kubernetes_files_are_whole_and_their_commands_are_taken(name: str) -> None:
    for document in documents(name):
        assert {"apiVersion", "kind", "metadata", "spec"} <= document.keys() and document["metadata"]["name"]
        template = document["spec"].get("template")
        if template is None:
            continue
        labels = template["metadata"]["labels"]
        assert document["spec"].get("selector", {"matchLabels": labels})["matchLabels"] == labels
        mounts = {
            mount["name"] for container in template["spec"]["containers"] for mount in container.get("volumeMounts", [])
        }
        assert mounts == {volume["name"] for volume in template["spec"].get("volumes", [])}
    for words in commands_of(name):
        parsed(words)


def test_everybody_finds_the_scheduler_and_nobody_else_does() -> None:
    _, service, policy = documents("scheduler.yaml")
    address = f"tcp://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    for name in ("workers.yaml", "campaign.yaml"):
        assert all(address in words for words in commands_of(name))
    peers = policy["spec"]["ingress"][0]["from"]
    assert [peer["podSelector"]["matchLabels"] for peer in peers] == [{"app": "allstop"}]
    for name in ("scheduler.yaml", "workers.yaml", "campaign.yaml"):
        for document in documents(name):
            if template := document["spec"].get("template"):
                assert template["metadata"]["labels"]["app"] == "allstop"


def test_the_container_has_what_the_others_start() -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text()
    assert {"FROM", "COPY", "RUN", "USER", "CMD"} <= set(re.findall(r"^([A-Z]+) ", text, re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "allstop[cluster]" in text and "cluster" in extras and "allstop[cluster]" in extras["test"]
    (command,) = re.findall(r"^CMD \[(.*)\]$", text, re.MULTILINE)
    parsed(re.findall(r'"([^"]+)"', command))


@pytest.mark.processes
def test_the_slurm_script_is_one() -> None:
    """That it runs a campaign is shown in test_cluster.py."""
    path = DEPLOY / "slurm" / "campaign.sbatch"
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    text = path.read_text()
    directives = [number for number, line in enumerate(text.splitlines()) if line.startswith("#SBATCH")]
    first_command = next(number for number, line in enumerate(text.splitlines()) if line and not line.startswith("#"))
    assert directives and max(directives) < first_command, "Slurm stops reading them at the first command"


@pytest.mark.parametrize("page", ["campaign.md", "cluster.md"])
def test_what_the_documentation_says_to_type_is_taken(page: str) -> None:
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"^\w+\$ +|\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    told = [line.split() for line in lines if line.startswith(("allstop ", "dask "))]
    assert told
    for words in told:
        parsed(words)


def test_the_spec_of_the_documentation_is_one(tmp_path: Path, guests: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "campaign.md").read_text(), re.MULTILINE | re.DOTALL)
    for image in ("swapper.elf", "hello.elf"):
        (tmp_path / image).symlink_to(guests / image)
    (tmp_path / "bad-weather.toml").symlink_to(ROOT / "examples" / "bad-weather.toml")
    (tmp_path / "spec.toml").write_text(text)
    plan = read_spec(tmp_path / "spec.toml")
    swapper, small = 2 * 2 * 100 * 2 * 5, (2 * 2 * 2 * 2 - 2 * 2) * 100 * 5
    assert len(plan.combinations) == swapper + small


def test_the_example_is_one() -> None:
    assert len(read_spec(ROOT / "examples" / "campaign.toml").combinations) == (3 + 1) * 2 * 3 * 2 * 2


def test_the_documentation_names_every_key() -> None:
    from allstop.campaign import spec

    text = (ROOT / "docs" / "campaign.md").read_text()
    for key in (*spec._TOP, *spec._GUEST, *spec._SCENARIO, *spec.AXES):
        assert f"`{key}`" in text, key


def test_examples_are_no_packages() -> None:
    """setuptools takes every folder for a package unless it is told otherwise."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert found["namespaces"] is False
    packages = find_packages(str(ROOT), include=found["include"])
    assert {"allstop", "allstop.campaign", "allstop.devicesrv.virtio"} <= set(packages)
    assert not [name for name in packages if name.startswith(("allstop.deploy.kubernetes", "allstop.images"))]
    folders = {
        os.path.relpath(folder, ROOT).replace("/", ".")
        for folder, _, files in os.walk(ROOT / "allstop", followlinks=True)
        if any(name.endswith(".py") for name in files)
    }
    assert folders <= set(packages), "a folder of modules that would not be installed"
