# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts file: what it gives, and one sentence for each way to write it wrongly."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.hosts.hosts_file import HostsFile, parse_hosts, place_vcpus, read_hosts
from allstop.vm.errors import UsageError

HERE: dict[str, Any] = {"name": "here", "address": "10.0.0.1"}
THERE: dict[str, Any] = {"name": "there", "address": "10.0.0.2"}


def two(**changes: Any) -> dict[str, Any]:
    """A file with a good first host, and these changes to a good second one."""
    return {"host": [HERE, THERE | changes]}


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(
        '[machine]\ndeadline_s = 2\n[[host]]\nname = "a"\naddress = "::1"\n'
        '[[host]]\nname = "b"\naddress = "10.0.0.2"\nvcpus = 3\nssh = "me@b"\npython = "/opt/python"\n'
    )
    file = read_hosts(path)
    assert (file.deadline_s, file.start_s) == (2.0, 20.0)
    assert [host.name for host in file.hosts] == ["a", "b"] and file.hosts[1].vcpus == 3
    assert file.hosts[1].command[0] == "ssh" and file.hosts[1].command[-1].endswith("allstop.deploy.hosts.agent")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "2 to 32 hosts, not 0"),
        ({"host": [HERE]}, "2 to 32 hosts, not 1"),
        ({"host": [HERE] * 33}, "2 to 32 hosts, not 33"),
        ({"host": HERE}, "[[host]] tables"),
        ({"host": ["here", "there"]}, "[[host]] tables"),
        ({"hosts": []}, "unknown key 'hosts': a hosts file has [[host]] tables"),
        (
            two(nome="x"),
            "host 'there' has the unknown key 'nome': choose from name, address, vcpus, ssh, command, python",
        ),
        (two(name=""), "host '' has no name"),
        (two(name=3), "host 3: name must be text, not 3"),
        (two(name="../../etc"), "host '../../etc': name must be letters"),
        (two(name="journal"), "host 'journal': name must be letters"),
        (two(name="run.json"), "host 'run.json': name must be letters"),
        (two(name="here"), "two hosts have the name here"),
        (two(address="10.0.0.1"), "two hosts have the address 10.0.0.1"),
        (two(address="localhost"), "host 'there': the address must be one such as 10.0.0.1, not 'localhost'"),
        (two(address="0.0.0.0"), "host 'there': other hosts cannot reach it under 0.0.0.0"),
        (two(address="224.0.0.1"), "host 'there': other hosts cannot reach it under 224.0.0.1"),
        (two(address="fe80::1%a b"), "host 'there': the address must be one such as 10.0.0.1"),
        (two(address=""), "host 'there' has no address"),
        (two(vcpus=-1), "host 'there': vcpus must be 0 or more, not -1"),
        (two(vcpus=1.5), "host 'there': vcpus must be a whole number, not 1.5"),
        (two(vcpus=True), "host 'there': vcpus must be a whole number, not True"),
        (two(command="ssh there"), "host 'there': command must be a list, not 'ssh there'"),
        (two(command=["ssh", 3]), "host 'there': command must be a list of words"),
        (two(command=["a\0b"]), "host 'there': command must be a list of words"),
        (two(command=["a"], ssh="there"), "host 'there' has both ssh and command"),
        (two(ssh="-oProxyCommand=x"), "host 'there': ssh must be a destination such as me@there"),
        (two(ssh=""), "host 'there': ssh must be a destination such as me@there"),
        (two(python=""), "host 'there': python must be the path of an interpreter"),
        ({"host": [HERE | {"ssh": "x"}, THERE]}, "host 'here' is the first, which is this host"),
        ({"host": [HERE, THERE], "machine": 3}, "machine must be a table"),
        ({"host": [HERE, THERE], "machine": {"deadline": 3}}, "[machine] has the unknown key 'deadline'"),
        (
            {"host": [HERE, THERE], "machine": {"deadline_s": "3"}},
            "deadline_s must be a number of seconds, 0.5 to 3600",
        ),
        ({"host": [HERE, THERE], "machine": {"start_s": float("nan")}}, "start_s must be a number of seconds"),
    ],
)
def test_each_mistake_has_a_sentence(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hosts(raw, "hosts.toml")
    assert str(caught.value).startswith("hosts.toml: ") and words in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content, words in (
        ("no", None, "cannot be read"),
        ("toml", b"[[host", "is not TOML"),
        ("bytes", b"\xff\xfe", "is not TOML"),
        ("deep", b"a=" + b"[" * 5000, "is not TOML"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError, match=words):
            read_hosts(path)


@pytest.mark.parametrize(
    ("counts", "vcpus", "placed"),
    [
        ([None, None], 4, (0, 0, 1, 1)),
        ([None, None], 3, (0, 0, 1)),
        ([1, 2, None], 6, (0, 1, 1, 2, 2, 2)),
        ([0, None], 2, (1, 1)),
        ([None, None, None, None], 2, (0, 1)),
    ],
)
def test_vcpus_are_placed(counts: list[int | None], vcpus: int, placed: tuple[int, ...]) -> None:
    raw = [
        {"name": f"h{number}", "address": f"10.0.0.{number + 1}"} | ({} if count is None else {"vcpus": count})
        for number, count in enumerate(counts)
    ]
    assert place_vcpus(parse_hosts({"host": raw}, "hosts.toml").hosts, vcpus) == placed


def test_vcpus_that_can_not_be_placed() -> None:
    for count in (1, 3):
        hosts = parse_hosts({"host": [HERE | {"vcpus": 0}, THERE | {"vcpus": count}]}, "hosts.toml").hosts
        with pytest.raises(UsageError, match=f"asks for {count} vCPUs and the machine has 2"):
            place_vcpus(hosts, 2)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.text(string.printable, max_size=20)
    | st.ip_addresses().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(["name", "address", "vcpus", "ssh", "command", "python"]) | st.text(max_size=6)


@given(st.lists(st.dictionaries(keys, values, max_size=6), max_size=4) | values, values)
def test_whatever_a_file_says_there_is_an_answer(hosts: Any, machine: Any) -> None:
    for raw in (
        {"host": hosts},
        {"host": hosts, "machine": machine},
        {"host": [HERE, THERE], "machine": machine},
        {"host": [HERE, *hosts]} if isinstance(hosts, list) else {"hosts": hosts},
        two(**hosts[0]) if isinstance(hosts, list) and hosts and isinstance(hosts[0], dict) else {},
    ):
        try:
            file = parse_hosts(raw, "hosts.toml")
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert isinstance(file, HostsFile) and len(file.hosts) >= 2
