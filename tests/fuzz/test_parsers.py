# SPDX-License-Identifier: GPL-2.0-or-later
"""Every parser of bytes from outside, with arbitrary and with damaged input: it takes them or raises its one error.

`make fuzz` runs these, and the other tests with the mark `fuzz`, with many more examples.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allstop.devicesrv.virtio.queue import Queue, QueueBrokenError
from allstop.gdbserver.framing import MAX_PACKET_BYTES, Framing, Interrupt, Packet, Write
from allstop.vm.boot.bundled import image
from allstop.vm.boot.device_tree import RunFacts, adapt, build
from allstop.vm.boot.images import ImageError, parse_elf, parse_raw, symbols
from allstop.vm.boot.linux_image import parse_zimage
from allstop.vm.events.scenario import Scenario, ScenarioError, parse
from allstop.vm.journal.format import HEADER_BYTES, MAGIC, RECORD_BYTES, Journal, JournalError
from allstop.vm.memory.guest_memory import AccessError
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import NUMBERS

pytestmark = pytest.mark.fuzz

MEMORY = 64 << 20
ELF = image("hello").read_bytes()
TREE = build(RunFacts(2, MEMORY, "console=ttyAMA0", (0x4800_0000, 0x4800_1000)))
ZIMAGE_MAGIC_AT = 0x24
SCENARIO = """\
seed = 7
[[event]]
name = "late answers"
action = "reply-delay"
for_ms = 5
step = "before-reply"
probability = 0.25
[[event]]
action = "swap-out"
page = "pc"
step = "before-read"
every = 3
"""


@st.composite
def damaged(draw: st.DrawFn, sound: bytes, head: int = 512) -> bytes:
    """`sound`, cut, with bytes and words of it replaced: mostly in its first `head` bytes, where structure is."""
    data = bytearray(sound[: draw(st.just(len(sound)) | st.integers(0, len(sound)))])
    for _ in range(draw(st.integers(0, 6))):
        if len(data) < 4:
            break
        at = draw(st.integers(0, min(head, len(data)) - 4) | st.integers(0, len(data) - 4))
        word = draw(st.sampled_from((0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)) | st.integers(0, 0xFFFF_FFFF))
        struct.pack_into("<I", data, at, word)
    return bytes(data)


def one_error(parser: Callable[[], object], error: type[Exception]) -> None:
    """Call `parser`: it may raise `error`, with one sentence, and nothing else."""
    try:
        parser()
    except error as raised:
        assert raised.__class__ is error and str(raised) and "\n" not in str(raised)


@given(damaged(ELF) | st.binary(max_size=200).map(lambda data: b"\x7fELF" + data))
def test_an_elf_file(data: bytes) -> None:
    one_error(lambda: parse_elf(data, MEMORY), ImageError)
    assert isinstance(symbols(data), dict)


@given(st.binary(max_size=200), st.integers(-1, 1 << 33))
def test_a_raw_image(data: bytes, load_ipa: int) -> None:
    one_error(lambda: parse_raw(data, MEMORY, load_ipa), ImageError)


@given(st.binary(max_size=400), st.integers(0, 1 << 12), st.integers(0, 1 << 12))
def test_a_zimage(data: bytes, start: int, end: int) -> None:
    header = bytes(ZIMAGE_MAGIC_AT) + struct.pack("<III", 0x016F_2818, start, end)
    one_error(lambda: parse_zimage(header + data, MEMORY), ImageError)
    one_error(lambda: parse_zimage(data, MEMORY), ImageError)


@given(damaged(TREE, len(TREE)) | st.binary(max_size=200).map(lambda data: b"\xd0\x0d\xfe\xed" + data))
def test_a_device_tree(data: bytes) -> None:
    one_error(lambda: adapt(data, RunFacts(1, MEMORY)), ImageError)


@given(
    st.binary(max_size=200)
    | st.builds(lambda number, rest: bytes((0x93, number)) + rest, st.integers(0, 127), st.binary(max_size=60))
)
def test_a_message(data: bytes) -> None:
    try:
        message = decode(data)
    except MalformedError as error:
        assert str(error)
    else:
        assert message.__class__ in NUMBERS and decode(encode(message)) == message


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_gdbs_bytes(pieces: list[bytes]) -> None:
    framing = Framing()
    for piece in pieces:
        for found in framing.receive(piece):
            assert isinstance(found, (Packet, Interrupt, Write))
            assert not isinstance(found, Packet) or len(found.payload) <= MAX_PACKET_BYTES


DIGITS, HEX_DIGITS, NESTED = "9" * 5000, "0x" + "f" * 5000, "[" * 3000  # more than Python reads, shows, descends into
TOML_VALUES = st.sampled_from(
    (
        "true",
        "-1",
        "0x1_0000_0000",
        "1e400",
        "nan",
        '"\\u0000"',
        "[]",
        "{}",
        "[[1]]",
        "1979-05-27",
        '"' + "x" * 500 + '"',
    )
    + (DIGITS, HEX_DIGITS, NESTED)
)


@st.composite
def scenario_texts(draw: st.DrawFn) -> str:
    """The lines of a sound scenario in any order, some of their values replaced, others cut."""
    lines = draw(st.lists(st.sampled_from(SCENARIO.splitlines()), max_size=12))
    for number, line in enumerate(lines):
        change = draw(st.sampled_from(("none", "none", "value", "cut", "text")))
        if change == "value":
            lines[number] = f"{line.partition('=')[0]}= {draw(TOML_VALUES)}"
        elif change == "cut":
            lines[number] = line[: draw(st.integers(0, len(line)))]
        elif change == "text":
            lines[number] = draw(st.text(max_size=20))
    return "\n".join(lines)


@example(f"seed = {DIGITS}")
@example(f"seed = {HEX_DIGITS}")
@example(f"seed = {NESTED}")
@example(f'[[event]]\naction = "swap-out"\nevery = {HEX_DIGITS}')
@example(f"[[event]]\naction = {HEX_DIGITS}")
@given(scenario_texts() | st.text(max_size=80))
def test_a_scenario(text: str) -> None:
    try:
        found = parse(text, "x.toml")
    except ScenarioError as error:
        assert "\n" not in str(error) and str(error).startswith("x.toml")
    else:
        assert Scenario.from_json(found.to_json()) == found


@given(st.binary(max_size=6 * RECORD_BYTES), st.booleans(), st.integers(0, 0xFFFF_FFFF))
def test_a_journal(tmp_path_factory: pytest.TempPathFactory, data: bytes, header: bool, version: int) -> None:
    if header:
        sound = MAGIC + struct.pack("<II", version if version % 2 else 1, RECORD_BYTES)
        data = sound + data[: HEADER_BYTES - len(sound)].ljust(HEADER_BYTES - len(sound), b"\0") + data
    path = tmp_path_factory.getbasetemp() / "fuzzed.journal"
    path.write_bytes(data)

    def read() -> None:
        with Journal(Path(path)) as journal:
            for event in journal.events():
                assert isinstance(event.time_ns, int)

    one_error(read, JournalError)


class Ram:
    """Guest RAM for a queue: any bytes, repeated; as the Memory protocol has it."""

    def __init__(self, data: bytes, ipa: int) -> None:
        self.data = bytearray(data)
        self.ipa = ipa

    def _at(self, ipa: int, n: int) -> int:
        if not self.ipa <= ipa <= ipa + n <= self.ipa + len(self.data):
            raise AccessError(f"no RAM at {ipa:#x}")
        return ipa - self.ipa

    def read(self, ipa: int, n: int, /) -> bytes:
        at = self._at(ipa, n)
        return bytes(self.data[at : at + n])

    def write(self, ipa: int, data: bytes, /) -> None:
        at = self._at(ipa, len(data))
        self.data[at : at + len(data)] = data

    def load16(self, ipa: int, /) -> int:
        return int.from_bytes(self.read(ipa, 2), "little")

    def store16(self, ipa: int, value: int, /) -> None:
        self.write(ipa, value.to_bytes(2, "little"))


@given(
    st.lists(
        st.tuples(
            st.integers(0x3FF0_0000, 0x4000_5000) | st.integers(0, 2**64 - 1),
            st.integers(0, 0x2000) | st.integers(0, 2**32 - 1),
            st.integers(0, 7),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 9),
    st.lists(st.integers(0, 9), min_size=8, max_size=8),
    st.booleans(),
)
def test_a_virtqueue(
    descriptors: list[tuple[int, int, int, int]], available: int, heads: list[int], event_index: bool
) -> None:
    """Would break: descriptors that look right one by one, in chains, loops and indirect tables, and are not."""
    ram = Ram(bytes(0x4000), 0x4000_0000)
    queue = Queue(ram, 8)
    queue.size, queue.descriptors, queue.driver, queue.device = 8, ram.ipa, ram.ipa + 0x1000, ram.ipa + 0x2000
    queue.enable(event_index)
    for number, descriptor in enumerate(descriptors):
        ram.write(ram.ipa + 16 * number, struct.pack("<QIHH", *descriptor))
    ram.write(ram.ipa + 0x1000, struct.pack("<HH8H", 0, available, *heads))
    try:
        for _ in range(available + 1):
            chain = queue.pop()
            if chain is None:
                return
            queue.push(chain, 0)
            queue.wants_interrupt()
    except QueueBrokenError as error:
        assert str(error) and "\n" not in str(error)
    else:
        pytest.fail("more chains than were made available")
