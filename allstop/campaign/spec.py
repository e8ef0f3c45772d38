# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign's spec: a TOML file of guests, axes, scenarios and exclusions, and the combinations that it plans.

Every value is checked here, by `allstop run`'s own checks, so that an error in a spec is reported before anything runs:
in one sentence, with the key's name. docs/campaign.md describes the vocabulary.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from allstop.campaign.combination import ADDED, FIRST, Combination, Value, digest_of
from allstop.deploy.options.kinds import scenario
from allstop.deploy.options.options import RunOptions
from allstop.vm.boot.bundled import resolve
from allstop.vm.config.kinds import WORD_MAX, Choice, Kind, Whole, number
from allstop.vm.config.options import of_python, rows
from allstop.vm.config.paths import shown
from allstop.vm.errors import UsageError

MAX_RUNS = 1_000_000
_DEFAULT_TIMEOUT_S = 60.0
_LONGEST_TIMEOUT_S = 86400.0
_MOST_MEMORY = 2816 << 20
_NAME_CHARACTERS = 64
_GUEST_FILES = ("image", "initrd", "dtb")


class _Axis(NamedTuple):
    """What may vary: `kind` reads its values."""

    what: str
    default: Value
    kind: Kind


def _axes() -> dict[str, _Axis]:
    """The axes, in the order of a summary's columns."""
    found = {
        row.word: _Axis(row.option.what, row.default, row.option.axis_kind or row.kind)
        for row in rows(RunOptions)
        if row.option.axis
    }
    return {word: found[word] for word in (*FIRST, *ADDED)}


AXES = _axes()
_RANGES = ("vcpus", "parameter", "seed")
_TOP = ("name", "repetitions", "timeout_s", "guest", "axes", "scenario", "exclude")
_GUEST = ("name", *_GUEST_FILES, "load", *AXES)
_SCENARIO = ("name", "file")


@dataclass(frozen=True)
class _Guest:
    """`files` are digests by role; `load` is the place of a raw image; `axes` are the guest's own."""

    name: str
    paths: dict[str, Path]
    files: dict[str, str]
    load: int | None
    axes: dict[str, tuple[Value, ...]]


class _Scenario(NamedTuple):
    """ "none" has no file."""

    name: str
    path: Path | None
    digest: str


_NO_EVENTS = _Scenario("none", None, "")


@dataclass(frozen=True)
class Spec:
    """`combinations` in the order of their runs: every cell once before any cell again. `files` are the contents that
    they need, by digest."""

    name: str
    combinations: tuple[Combination, ...]
    files: dict[str, bytes] = field(repr=False)


def read_spec(path: Path) -> Spec:
    """The spec in a file, whose folder is the base for other files' names. Raises UsageError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the spec {path} cannot be read: {error.strerror}") from None
    try:
        raw = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"the spec {path} cannot be read: it is not text in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no TOML: {str(error) or 'too deep'}") from None
    return _Reader(path).spec(raw)


class _Reader:
    """Reads one spec. In sentences, `where` is a key's name with the tables around it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, bytes] = {}

    def spec(self, raw: dict[str, Any]) -> Spec:
        self._known(raw, "", _TOP)
        name = self._name(raw.get("name", self._path.stem), "name")
        repetitions = raw.get("repetitions", 1)
        if not isinstance(repetitions, int) or isinstance(repetitions, bool) or not 1 <= repetitions <= MAX_RUNS:
            raise self._wrong("repetitions", f"a whole number, 1 to {MAX_RUNS}", repetitions)
        timeout_s = raw.get("timeout_s", _DEFAULT_TIMEOUT_S)
        if (
            not isinstance(timeout_s, (int, float))
            or isinstance(timeout_s, bool)
            or not 0 < timeout_s <= _LONGEST_TIMEOUT_S
        ):
            raise self._wrong(
                "timeout_s", f"a number of seconds, more than 0 and at most {_LONGEST_TIMEOUT_S:.0f}", timeout_s
            )
        axes = self._axes(self._table(raw, "axes"), "axes", tuple(AXES))
        guests = [self._guest(table, f"guest[{at}]", axes) for at, table in self._tables(raw, "guest")]
        if not guests:
            raise UsageError(f"{self._path}: guest: a campaign has one [[guest]] table or more")
        scenarios = [self._scenario(table, f"scenario[{at}]") for at, table in self._tables(raw, "scenario")]
        self._differ("guest", [guest.name for guest in guests])
        self._differ("scenario", [found.name for found in scenarios])
        scenarios = scenarios or [_NO_EVENTS]
        exclusions = [
            self._exclusion(table, f"exclude[{at}]", guests, scenarios) for at, table in self._tables(raw, "exclude")
        ]
        planned = sum(math.prod(map(len, guest.axes.values())) for guest in guests) * len(scenarios) * repetitions
        if planned > MAX_RUNS:
            raise UsageError(f"{self._path}: these are {planned} runs: a campaign has at most {MAX_RUNS}")
        return self._plan(name, guests, scenarios, exclusions, repetitions, float(timeout_s))

    def _plan(
        self,
        name: str,
        guests: list[_Guest],
        scenarios: list[_Scenario],
        exclusions: list[dict[str, tuple[Value, ...]]],
        repetitions: int,
        timeout_s: float,
    ) -> Spec:
        combinations: dict[str, Combination] = {}
        checked: set[tuple[Value, ...]] = set()
        for repetition in range(1, repetitions + 1):
            for guest, events, options in _cells(guests, scenarios):
                facts = {"guest": guest.name, "scenario": events.name, **options}
                if any(all(facts[key] in values for key, values in rule.items()) for rule in exclusions):
                    continue
                files = guest.files | ({} if events.path is None else {"events": events.digest})
                if guest.load is not None:
                    options = options | {"load": guest.load}
                found = Combination(guest.name, events.name, files, options, repetition, timeout_s)
                decisive = (guest.name, events.name, *(v for k, v in options.items() if k not in ("seed", "parameter")))
                if decisive not in checked:
                    self._check(found, guest, events.path)
                    checked.add(decisive)
                if (other := combinations.setdefault(found.identity, found)) is not found:
                    raise UsageError(
                        f"{self._path}: guest {guest.name!r} and guest {other.guest!r} plan the same run: "
                        f"{found.describe()}"
                    )
        if not combinations:
            raise UsageError(f"{self._path}: exclude: no run is left")
        return Spec(name, tuple(combinations.values()), self._files)

    def _check(self, found: Combination, guest: _Guest, events: Path | None) -> None:
        """Apply `allstop run`'s own checks to the options, the files and their combination."""
        try:
            given: dict[str, Any] = {"timeout": found.timeout_s, **found.options, **guest.paths}
            if events is not None:
                given["events"] = events
            options = RunOptions(given.pop("image"), **of_python(RunOptions, given))
            options.startup()
            options.resolved_events()
        except UsageError as error:
            raise UsageError(f"{self._path}: {found.describe()}: {error}") from None

    def _guest(self, raw: Mapping[str, Any], where: str, axes: dict[str, tuple[Value, ...]]) -> _Guest:
        self._known(raw, where, _GUEST)
        if "image" not in raw:
            raise UsageError(f"{self._path}: {where}.image: a guest needs an image")
        paths = {role: self._file(raw[role], f"{where}.{role}") for role in _GUEST_FILES if role in raw}
        paths["image"] = resolve(Path(raw["image"]), self._path.parent)
        own = self._axes({key: raw[key] for key in raw if key in AXES}, where, tuple(AXES))
        load = raw.get("load")
        if isinstance(load, str):
            load = number(f"{where}.load", load)
        if load is not None and (not isinstance(load, int) or isinstance(load, bool) or not 0 <= load <= WORD_MAX):
            raise self._wrong(f"{where}.load", "a 32-bit guest address", load)
        name = self._name(raw.get("name", paths["image"].stem), f"{where}.name")
        files = {role: self._content(f"{where}.{role}", path) for role, path in paths.items()}
        if load is None:
            # allstop knows a raw image by its name, which does not travel with its content.
            image = RunOptions(image=paths["image"], memory_bytes=_MOST_MEMORY).read_image()
            load = image.entry if image.kind == "raw" else None
        every = {key: (axis.default,) for key, axis in AXES.items()} | axes | own
        return _Guest(name, paths, files, load, every)

    def _scenario(self, raw: Mapping[str, Any], where: str) -> _Scenario:
        self._known(raw, where, _SCENARIO)
        if "file" not in raw:
            if raw.get("name") != "none":
                raise UsageError(
                    f'{self._path}: {where}.file: a scenario needs a file of events (or the name "none", '
                    "which is a run without events)"
                )
            return _NO_EVENTS
        path = self._file(raw["file"], f"{where}.file")
        name = self._name(raw.get("name", path.stem), f"{where}.name")
        if name == "none":
            raise UsageError(f'{self._path}: {where}.name: "none" is a run without events: it has no file')
        try:
            scenario(path)
        except UsageError as error:
            raise UsageError(f"{self._path}: {where}.file: {error}") from None
        return _Scenario(name, path, self._content(f"{where}.file", path))

    def _exclusion(
        self, raw: Mapping[str, Any], where: str, guests: list[_Guest], scenarios: list[_Scenario]
    ) -> dict[str, tuple[Value, ...]]:
        self._known(raw, where, ("guest", "scenario", *AXES))
        if not raw:
            raise UsageError(f"{self._path}: {where}: it names nothing, and would exclude everything")
        rule = self._axes({key: raw[key] for key in raw if key in AXES}, where, tuple(AXES))
        names = {"guest": [guest.name for guest in guests], "scenario": [found.name for found in scenarios]}
        for key, known in names.items():
            if key in raw:
                rule[key] = self._values(raw[key], f"{where}.{key}", key, Choice(known))
        return rule

    def _axes(self, raw: Mapping[str, Any], where: str, known: tuple[str, ...]) -> dict[str, tuple[Value, ...]]:
        self._known(raw, where, known)
        found = {}
        for key, value in raw.items():
            if key in _RANGES and isinstance(value, dict):
                value = self._range(value, f"{where}.{key}")
            found[key] = self._values(value, f"{where}.{key}", AXES[key].what, AXES[key].kind)
        return found

    def _range(self, raw: Mapping[str, Any], where: str) -> list[int]:
        self._known(raw, where, ("first", "count"))
        word = Whole(0, WORD_MAX)
        for key in ("first", "count"):
            self._value(raw.get(key, 0), f"{where}.{key}", key, word)
        first, count = raw.get("first", 0), raw.get("count", 0)
        if not 1 <= count <= MAX_RUNS:
            raise self._wrong(f"{where}.count", f"a whole number, 1 to {MAX_RUNS}", count)
        return list(range(first, first + count))

    def _value(self, raw: Any, where: str, what: str, kind: Kind) -> Value:
        try:
            value: Value = kind.accept(what, raw)
        except UsageError:
            raise self._wrong(where, kind.allowed, raw) from None
        return value

    def _values(self, raw: Any, where: str, what: str, kind: Kind) -> tuple[Value, ...]:
        values = raw if isinstance(raw, list) else [raw]
        if not values:
            raise UsageError(f"{self._path}: {where}: the list is empty: leave the key out, or give {kind.allowed}")
        found: dict[Value, None] = {}
        for value in values:
            good = self._value(value, where, what, kind)
            if good in found:
                raise UsageError(f"{self._path}: {where}: {shown(value)} is there twice")
            found[good] = None
        return tuple(found)

    def _differ(self, what: str, names: list[str]) -> None:
        for twice in names:
            if names.count(twice) > 1:
                raise UsageError(f"{self._path}: {what}: two have the name {twice!r}: give each its own name")

    def _name(self, raw: Any, where: str) -> str:
        if not isinstance(raw, str) or not raw.isprintable() or not 1 <= len(raw) <= _NAME_CHARACTERS:
            raise self._wrong(where, f"text of 1 to {_NAME_CHARACTERS} printable characters", raw)
        return raw

    def _file(self, raw: Any, where: str) -> Path:
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise self._wrong(where, "the name of a file, as text", raw)
        return self._path.parent / raw

    def _content(self, where: str, path: Path) -> str:
        try:
            if not path.is_file():
                raise UsageError(f"{self._path}: {where}: there is no file {path}")
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{self._path}: {where}: {path} cannot be read: {error.strerror}") from None
        digest = digest_of(content)
        self._files[digest] = content
        return digest

    def _table(self, raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = raw.get(key, {})
        if not isinstance(found, dict):
            raise self._wrong(key, f"a table, [{key}]", found)
        return found

    def _tables(self, raw: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        found = raw.get(key, [])
        if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
            raise self._wrong(key, f"tables, each [[{key}]]", found)
        return iter(enumerate(found, 1))

    def _known(self, raw: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
        for key in raw:
            if key not in known:
                what = f"{where}.{shown_key(key)}" if where else shown_key(key)
                raise UsageError(f"{self._path}: {what}: there is no such key: choose one of {', '.join(known)}")

    def _wrong(self, where: str, allowed: str, value: object) -> UsageError:
        return UsageError(f"{self._path}: {where}: must be {allowed}, not {shown(value)}")


def shown_key(key: str) -> str:
    """A key in a sentence: unquoted if it is a plain word."""
    return key if key.isidentifier() and len(key) <= _NAME_CHARACTERS else shown(key)


def _cells(
    guests: list[_Guest],
    scenarios: list[_Scenario],
) -> Iterator[tuple[_Guest, _Scenario, dict[str, Value]]]:
    """Guest, scenario and options of each run of one repetition; seeds change slowest: all cells grow together."""
    turns = [
        (guest, events, values)
        for guest in guests
        for events in scenarios
        for values in itertools.product(*guest.axes.values())
    ]
    seed_at = {guest.name: list(guest.axes).index("seed") for guest in guests}
    place = {guest.name: {seed: at for at, seed in enumerate(guest.axes["seed"])} for guest in guests}
    turns.sort(key=lambda turn: place[turn[0].name][turn[2][seed_at[turn[0].name]]])  # stable
    for guest, events, values in turns:
        yield guest, events, dict(zip(guest.axes, values, strict=True))
