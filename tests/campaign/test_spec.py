# SPDX-License-Identifier: GPL-2.0-or-later
"""A spec plans what it says, and what is wrong in one is a sentence with the key's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allstop.campaign.combination import Combination, digest_of
from allstop.campaign.spec import AXES, MAX_RUNS, read_spec
from allstop.vm.config.policies import FETCH_POLICIES
from allstop.vm.errors import UsageError

SCENARIO = '[[event]]\naction = "stall"\nat_ms = 1\nvcpu = 1\nfor_ms = 1\n'


def test_the_product_is_planned_without_what_is_excluded(spec: Callable[..., Path]) -> None:
    found = read_spec(
        spec(
            "hello",
            "fail",
            top="repetitions = 2",
            text="""
        [axes]
        fetch = ["stop-world", "validate"]
        seed = {first = 5, count = 3}
        [[exclude]]
        guest = "fail"
        fetch = ["validate"]
        """,
        )
    ).combinations
    assert len(found) == (2 + 1) * 3 * 2
    assert {(c.guest, c.options["fetch"]) for c in found} == {
        ("hello", "stop-world"),
        ("hello", "validate"),
        ("fail", "stop-world"),
    }
    assert {c.options["seed"] for c in found} == {5, 6, 7}
    assert len({c.identity for c in found}) == len(found)
    assert [c.repetition for c in found] == [1] * 9 + [2] * 9
    assert [c.options["seed"] for c in found[:9]] == [5, 5, 5, 6, 6, 6, 7, 7, 7], "a cell is whole before others begin"


def test_an_image_is_a_file_beside_the_spec_or_a_bundled_guest(
    spec: Callable[..., Path], guests: Path, tmp_path: Path
) -> None:
    bundled = read_spec(spec(text='[[guest]]\nimage = "hello"')).combinations[0]
    assert bundled.files == {"image": digest_of((guests / "hello.elf").read_bytes())}
    (tmp_path / "hello").write_bytes((guests / "fail.elf").read_bytes())
    beside = read_spec(spec(text='[[guest]]\nimage = "hello"')).combinations[0]
    assert beside.files == {"image": digest_of((guests / "fail.elf").read_bytes())}


def test_a_guest_has_axes_of_its_own(spec: Callable[..., Path], guests: Path) -> None:
    found = read_spec(
        spec(
            "hello",
            text=f"""
        [[guest]]
        name = "big"
        image = "{guests / "hello.elf"}"
        vcpus = 4
        [axes]
        vcpus = [1, 2]
        """,
        )
    ).combinations
    assert [(c.guest, c.options["vcpus"]) for c in found] == [("hello", 1), ("hello", 2), ("big", 4)]


def test_what_a_run_is_called_depends_on_what_it_does_and_on_nothing_else(
    spec: Callable[..., Path], tmp_path: Path, guests: Path
) -> None:
    """Would break: a store whose runs are not known again after the image was moved or the spec got a comment."""
    first = read_spec(spec("hello")).combinations[0]
    (tmp_path / "moved.elf").write_bytes((guests / "hello.elf").read_bytes())
    moved = read_spec(spec(top="# moved", text='[[guest]]\nimage = "moved.elf"\nfetch = "stop-world"')).combinations[0]
    assert moved.identity == first.identity and moved.guest == "moved"
    assert Combination.from_json(first.to_json()) == first
    for other in ("[axes]\nseed = 1", '[axes]\nmemory = "32M"', "[axes]\nkeep_going = true"):
        assert read_spec(spec("hello", text=other)).combinations[0].identity != first.identity
    assert read_spec(spec("hello", top="timeout_s = 5")).combinations[0].identity != first.identity
    assert read_spec(spec("fail")).combinations[0].identity != first.identity


def test_scenarios_multiply_and_none_is_a_run_without(spec: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "stall.toml").write_text(SCENARIO)
    plan = read_spec(
        spec("hello", text='[[scenario]]\nname = "none"\n[[scenario]]\nfile = "stall.toml"\n[axes]\nvcpus = 2')
    )
    assert [(c.scenario, "events" in c.files) for c in plan.combinations] == [("none", False), ("stall", True)]
    assert SCENARIO.encode() in plan.files.values()


@pytest.mark.parametrize(
    ("top", "text", "sentence"),
    [
        ("colour = 1", "", r"colour: there is no such key: choose one of name, repetitions"),
        ("", "[axes]\nfech = 'abort'", r"axes\.fech: there is no such key: choose one of vcpus, fetch"),
        ("", "[axes]\nfetch = 'none'", r"axes\.fetch: must be one of stop-world, .*not 'none'"),
        ("", "[axes]\nfetch = 'user'", r"axes\.fetch: must be one of"),
        ("", "[axes]\nvcpus = [1, 0]", r"axes\.vcpus: must be a whole number, 1 to 128, not 0"),
        ("", "[axes]\nvcpus = true", r"axes\.vcpus: must be a whole number"),
        ("", "[axes]\nseed = [1, 1]", r"axes\.seed: 1 is there twice"),
        ("", "[axes]\nseed = []", r"axes\.seed: the list is empty"),
        ("", "[axes]\nseed = {first = 1}", r"axes\.seed\.count: must be a whole number, 1 to"),
        ("", "[axes]\nseed = {first = 1, count = 2, step = 3}", r"axes\.seed\.step: there is no such key"),
        ("", "[axes]\npin = 1", r"axes\.pin: must be true or false, not 1"),
        ("", "[axes]\nmemory = '3M'", r"axes\.memory: must be a size"),
        ("repetitions = 0", "", r"repetitions: must be a whole number, 1 to 1000000, not 0"),
        ("timeout_s = 'long'", "", r"timeout_s: must be a number of seconds"),
        ("timeout_s = nan", "", r"timeout_s: must be a number of seconds"),
        ("axes = 1", "", r"axes: must be a table, \[axes\], not 1"),
        ("exclude = 1", "", r"exclude: must be tables"),
        ("", "[[exclude]]", r"exclude\[1\]: it names nothing"),
        ("", "[[exclude]]\nguest = 'absent'", r"exclude\[1\]\.guest: must be one of hello, not 'absent'"),
        ("", "[[exclude]]\nguest = 'hello'", r"exclude: no run is left"),
        ("", "[[guest]]\nname = 'a'", r"guest\[2\]\.image: a guest needs an image"),
        ("", "[[guest]]\nimage = 'no-such-image'", r"guest\[2\]\.image: there is no file"),
        ("", "[[guest]]\nimage = 3", r"guest\[2\]\.image: must be the name of a file, as text, not 3"),
        ("", "[[guest]]\nimage = 'spec.toml'", r"is not an ELF file"),
        ("", "[[scenario]]\nname = 'x'", r"scenario\[1\]\.file: a scenario needs a file"),
        ("", "[[scenario]]\nfile = 'spec.toml'", r"scenario\[1\]\.file: .*no key of a scenario"),
        (
            "repetitions = 1000",
            "[axes]\nseed = {count = 1000000}",
            r"these are 1000000000 runs: a campaign has at most",
        ),
        ("[", "", r"no TOML"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(spec: Callable[..., Path], top: str, text: str, sentence: str) -> None:
    path = spec("hello", top=top, text=text)
    with pytest.raises(UsageError, match=sentence) as told:
        read_spec(path)
    assert len(str(told.value).splitlines()) == 1


def test_what_does_not_go_together_names_the_run(spec: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "stall.toml").write_text(SCENARIO)
    with pytest.raises(UsageError, match=r"hello scenario=stall vcpus=1 .*vcpu is 1, the machine has vCPUs 0 to 0"):
        read_spec(spec("hello", text='[[scenario]]\nfile = "stall.toml"'))


def test_two_guests_that_are_the_same_run_are_refused(spec: Callable[..., Path], guests: Path) -> None:
    with pytest.raises(UsageError, match="two have the name 'hello'"):
        read_spec(spec("hello", "hello"))
    with pytest.raises(UsageError, match="guest 'again' and guest 'hello' plan the same run"):
        read_spec(spec("hello", text=f'[[guest]]\nname = "again"\nimage = "{guests / "hello.elf"}"'))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from((*FETCH_POLICIES, *AXES, "hello", "none")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from((*AXES, "first", "count", "name", "image", "file", "guest", "scenario", "load")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TABLES = st.dictionaries(
    st.sampled_from(("name", "repetitions", "timeout_s", "axes", "scenario", "exclude", "other")), VALUES, max_size=5
)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in value) + '"'
        case None:
            return "1979-05-27"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return str(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tables=TABLES)
def test_whatever_a_spec_says_it_is_planned_or_refused_in_one_sentence(
    tables: dict[str, Any], spec: Callable[..., Path]
) -> None:
    path = spec("hello", top="\n".join(f"{key} = {_toml(value)}" for key, value in tables.items()))
    try:
        assert 1 <= len(read_spec(path).combinations) <= MAX_RUNS
    except UsageError as error:
        assert len(str(error).splitlines()) == 1 and str(error).startswith(f"{path}: ")


@given(data=st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_bytes_are_refused_in_one_sentence(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        read_spec(path)
    path.write_bytes(b"a = " + b"[" * 2000 + data)
    with pytest.raises(UsageError):
        read_spec(path)
