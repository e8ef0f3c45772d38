# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb server against a machine that is made of dictionaries: what it asks for, and in which order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.gdbserver.commands import Commands
from allstop.gdbserver.resumption import parse_vcont
from allstop.gdbserver.session import (
    Ask,
    Attached,
    Gone,
    Input,
    Interrupted,
    Passed,
    Received,
    Reply,
    Say,
    Session,
    Told,
)
from allstop.gdbserver.target import REGISTERS, TARGET_XML
from allstop.vm.wire.messages import (
    HIT_BREAKPOINT,
    HIT_WATCHPOINT,
    VERDICTS,
    DebugDone,
    DebuggerReady,
    HoldVcpu,
    LetVcpuGo,
    MembersReady,
    Message,
    PeekMemory,
    PokeMemory,
    ReadVcpu,
    ReleaseWorld,
    RunEnded,
    SetStops,
    Shutdown,
    StepVcpu,
    StopRun,
    StopWorld,
    TranslateAddress,
    VcpuHit,
    WorldStopped,
    WriteVcpu,
)


@dataclass
class Model:
    """A machine, as far as a debugger's messages tell of it, and a client."""

    vcpus: int = 2
    waits: bool = False
    deaf: set[int] = field(default_factory=set)  # vCPUs that do not answer
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.session = Session(self.vcpus, self.waits, Commands)
        self.held: set[int] = set()
        self.running: set[int] = set(range(self.vcpus))
        self.world_is_stopped = False
        self.memory: dict[int, int] = {}
        self.registers = [{register.name: 0 for register in REGISTERS} for _ in range(self.vcpus)]
        self.stops = ['{"breakpoints": [], "watchpoints": []}'] * self.vcpus
        self.asked: list[Message] = []
        self.replies: list[bytes] = []
        self.said: list[str] = []
        self.outstanding: set[int] = set()
        self.steps_hit: dict[int, int] = {}
        self.do(Told(MembersReady(self.vcpus)))

    def do(self, given: Input) -> list[bytes]:
        """An input, and everything that follows from it; the packets for the client."""
        inputs = [given]
        begin = len(self.replies)
        while inputs:
            for effect in self.session.handle(inputs.pop(0), self.now_s):
                match effect:
                    case Reply(payload):
                        self.replies.append(payload)
                    case Say(sentence):
                        self.said.append(sentence)
                    case Ask(message):
                        self.asked.append(message)
                        inputs += (Told(answer, ("running",) * self.vcpus) for answer in self.answer(message))
                    case _:
                        pass
        return self.replies[begin:]

    def packet(self, text: bytes) -> list[bytes]:
        """A packet of the client's."""
        return self.do(Received(text))

    def pass_time(self, seconds: float) -> list[bytes]:
        """The clock goes on."""
        self.now_s += seconds
        return self.do(Passed())

    def answer(self, message: Message) -> list[Message]:
        """What the machine does with a message, checked against the rules of messages.py."""
        match message:
            case StopWorld():
                assert not self.world_is_stopped
                self.world_is_stopped = True
                return [WorldStopped(7)]
            case ReleaseWorld(epoch):
                assert self.world_is_stopped and epoch == 7
                self.world_is_stopped = False
                return []
            case DebuggerReady() | StopRun():
                return []
        vcpu: int = message.vcpu  # type: ignore[union-attr]
        nonce: int = message.nonce  # type: ignore[union-attr]
        assert vcpu not in self.outstanding, "a vCPU was sent a second command before it had answered the first one"
        data, sentence = b"", ""
        match message:
            case HoldVcpu():
                assert self.world_is_stopped
                self.held.add(vcpu)
            case LetVcpuGo():
                self.held.discard(vcpu)
            case StepVcpu():
                assert vcpu in self.held
                if vcpu in self.steps_hit:
                    data = self.steps_hit.pop(vcpu).to_bytes(4, "little")
            case ReadVcpu():
                data = json.dumps(self.registers[vcpu]).encode()
            case WriteVcpu(_, _, name, value):
                self.registers[vcpu][name] = value
            case PeekMemory(_, _, address, length, _):
                data = bytes(self.memory.get(address + i, 0) for i in range(length)) if address < 0xF000_0000 else b""
            case PokeMemory(_, _, address, written, _):
                self.memory.update(enumerate(written, address))
            case TranslateAddress(_, _, address):
                data = address.to_bytes(4, "little")
            case SetStops(_, _, stops):
                self.stops[vcpu] = stops
        if vcpu in self.deaf:
            self.outstanding.add(vcpu)
            return []
        return [DebugDone(nonce, vcpu, data, sentence)]

    def kinds(self) -> list[type[Message]]:
        """What was asked since the last look, without what reads and writes."""
        found = [message.__class__ for message in self.asked]
        self.asked.clear()
        return found

    def breakpoints(self, vcpu: int) -> list[int]:
        found: list[int] = json.loads(self.stops[vcpu])["breakpoints"]
        return found


@pytest.fixture
def model() -> Model:
    """Two vCPUs, and a client that has connected."""
    made = Model()
    made.do(Attached(("running", "asleep in WFI")))
    made.kinds()
    return made


def test_a_client_that_comes_stops_the_world() -> None:
    model = Model()
    assert model.asked == []
    assert model.do(Attached(("running", "running"))) == []
    assert model.kinds() == [StopWorld, HoldVcpu, HoldVcpu, ReleaseWorld]
    assert model.held == {0, 1}
    assert model.packet(b"?") == [b"T05thread:1;"]


def test_a_machine_that_waits_is_held_before_it_boots() -> None:
    model = Model(waits=True)
    assert model.kinds() == [StopWorld, HoldVcpu, HoldVcpu, ReleaseWorld, DebuggerReady]
    model.pass_time(100)
    assert model.held == {0, 1}
    model.do(Attached(("", "")))
    model.do(Gone())
    assert model.held == set()


def test_breakpoints_are_told_when_vcpus_go(model: Model) -> None:
    assert model.packet(b"Z0,40010000,4") == [b"OK"]
    assert model.kinds() == []
    assert model.packet(b"vCont;c") == []
    assert model.kinds() == [SetStops, SetStops, LetVcpuGo, LetVcpuGo]
    assert model.breakpoints(1) == [0x40010000]
    assert model.do(Told(VcpuHit(1, HIT_BREAKPOINT, 0x40010000, 0))) == [b"T05thread:2;"]
    assert model.kinds() == [StopWorld, HoldVcpu, ReleaseWorld]
    assert model.packet(b"qC") == [b"QC2"]


def test_a_hit_that_was_not_reported_comes_again(model: Model) -> None:
    model.packet(b"vCont;c")
    session = model.session
    assert model.do(Told(VcpuHit(1, HIT_BREAKPOINT, 0x40010000, 0))) == [b"T05thread:2;"]
    model.do(Told(VcpuHit(0, HIT_BREAKPOINT, 0x40010000, 0)))  # sent before the world had stopped
    model.kinds()
    assert model.packet(b"vCont;c") == []
    assert [(message.vcpu, message.again) for message in model.asked if isinstance(message, LetVcpuGo)] == [
        (0, True),
        (1, False),
    ]
    assert not session.hits


def test_watchpoints_are_named_by_their_kind(model: Model) -> None:
    for kind, word in ((2, b"watch"), (3, b"rwatch"), (4, b"awatch")):
        assert model.packet(b"Z%d,40020000,4" % kind) == [b"OK"]
        model.packet(b"c")
        assert model.do(Told(VcpuHit(0, HIT_WATCHPOINT, 0x40010004, 0x40020002))) == [
            b"T05thread:1;" + word + b":40020002;"
        ]
        assert model.packet(b"z%d,40020000,4" % kind) == [b"OK"]


def test_ctrl_c_stops_also_when_it_comes_with_the_packet_that_lets_go(model: Model) -> None:
    assert model.packet(b"vCont;c") == []
    assert model.do(Interrupted()) == [b"T02thread:1;"]
    assert model.held == {0, 1}
    model.packet(b"vCont;c")
    model.do(Interrupted())
    assert model.packet(b"g") != []


def test_one_is_stepped_alone_and_then_among_others(model: Model) -> None:
    assert model.packet(b"vCont;s:2") == [b"T05thread:2;"]
    assert model.kinds() == [StepVcpu]
    assert model.packet(b"vCont;s:2;c") == []
    assert model.kinds() == [StepVcpu, LetVcpuGo]
    assert model.held == {1}, "the vCPU that was stepped went on with the others"
    assert model.pass_time(0.01) == [b"T05thread:2;"]
    assert model.kinds() == [StopWorld, HoldVcpu, ReleaseWorld]


def test_a_step_that_accesses_watched_memory(model: Model) -> None:
    model.packet(b"Z2,40020000,4")
    model.steps_hit[0] = 0x40020000
    assert model.packet(b"vCont;s:1") == [b"T05thread:1;watch:40020000;"]


def test_one_goes_on_alone(model: Model) -> None:
    assert model.packet(b"vCont;c:1") == []
    assert model.held == {1}
    assert model.do(Interrupted()) == [b"T02thread:1;"]


def test_registers_and_memory(model: Model) -> None:
    assert model.packet(b"P3=78563412") == [b"OK"]
    assert model.registers[0]["r3"] == 0x12345678
    assert model.packet(b"p3") == [b"78563412"]
    (everything,) = model.packet(b"g")
    assert everything[24:32] == b"78563412"
    assert len(everything) == 2 * sum(register.width_bytes for register in REGISTERS)
    assert model.packet(b"G" + b"01000000" + everything[8:]) == [b"OK"]
    assert model.registers[0]["r0"] == 1
    assert model.packet(b"Mfff0,4:01020304") == [b"OK"]
    assert model.packet(b"Xfff4,2:\x00}") == [b"OK"]
    assert model.packet(b"mfff0,6") == [b"01020304007d"]
    assert model.packet(b"mf0000000,4") == [b"E14"]
    assert model.packet(b"Hg2") == [b"OK"]
    assert model.packet(b"p3") == [b"00000000"]


def test_physical_addresses(model: Model) -> None:
    for text, physical in ((b"Qqemu.PhyMemMode:1", True), (b"Qqemu.PhyMemMode:0", False)):
        assert model.packet(text) == [b"OK"]
        assert model.packet(b"qqemu.PhyMemMode") == [b"%d" % physical]
        model.asked.clear()
        model.packet(b"m0,4")
        assert [message.physical for message in model.asked if isinstance(message, PeekMemory)] == [physical]


def test_threads_and_description(model: Model) -> None:
    assert model.packet(b"qfThreadInfo") == [b"m1,2"]
    assert model.packet(b"qsThreadInfo") == [b"l"]
    assert bytes.fromhex(model.packet(b"qThreadExtraInfo,2")[0].decode()) == b"vCPU 1, running"
    assert model.packet(b"T3") == [b"E22"]
    read, more = b"", b"m"
    while more[:1] == b"m":
        (more,) = model.packet(b"qXfer:features:read:target.xml:%x,100" % len(read))
        read += more[1:]
    assert read == TARGET_XML


def test_monitor(model: Model) -> None:
    def monitor(text: bytes) -> str:
        (reply,) = model.packet(b"qRcmd," + text.hex().encode())
        return bytes.fromhex(reply.decode()).decode()

    assert "monitor translate ADDRESS" in monitor(b"help")
    assert monitor(b"translate 0x1000") == "0x00001000 is 0x00001000 on vCPU 0\n"
    assert "no address" in monitor(b"translate here")
    assert "physical" in monitor(b"physical on")


def test_a_client_that_vanishes_is_a_detach_with_a_sentence(model: Model) -> None:
    model.packet(b"Z0,40010000,4")
    model.packet(b"vCont;c")
    model.do(Told(VcpuHit(0, HIT_BREAKPOINT, 0x40010000, 0)))
    model.do(Gone())
    assert model.held == set()
    assert model.breakpoints(0) == model.breakpoints(1) == []
    assert len(model.said) == 1


def test_detach_is_silent_and_another_client_may_come(model: Model) -> None:
    assert model.packet(b"D") == [b"OK"]
    assert model.held == set()
    model.do(Gone())
    assert model.said == []
    model.do(Attached(("", "")))
    assert model.held == {0, 1}


def test_a_hit_after_its_client_has_gone_holds_nobody(model: Model) -> None:
    model.packet(b"vCont;c")
    model.do(Gone())
    model.do(Told(VcpuHit(1, HIT_BREAKPOINT, 0x40010000, 0)))
    assert model.held == set() and not model.world_is_stopped
    assert [message.vcpu for message in model.asked if isinstance(message, LetVcpuGo)].count(1) == 2


def test_a_vcpu_that_does_not_answer_hangs_nobody() -> None:
    model = Model(deaf={1})
    model.do(Attached(("", "")))
    assert model.packet(b"?") == []
    assert model.pass_time(3) == [b"T05thread:1;"]
    assert model.packet(b"g")[0] != b"E10"
    model.packet(b"Hg2")
    assert model.packet(b"g") == [b"E10"]


@pytest.mark.parametrize(
    ("ended", "reply"),
    [
        (RunEnded(VERDICTS.index("pass"), 0, ""), b"W00"),
        (RunEnded(VERDICTS.index("fail"), 3, ""), b"W03"),
        (RunEnded(VERDICTS.index("fail"), 256, ""), b"W01"),
        (RunEnded(VERDICTS.index("lost"), 1, ""), b"X0f"),
        (None, b"X0f"),
    ],
)
def test_the_end_of_the_machine(model: Model, ended: RunEnded | None, reply: bytes) -> None:
    model.packet(b"vCont;c")
    if ended is not None:
        model.do(Told(ended))
    assert model.do(Told(Shutdown())) == [reply]


def test_kill_ends_the_run(model: Model) -> None:
    assert model.packet(b"vKill;1") == [b"OK"]
    assert StopRun in model.kinds()


@pytest.mark.parametrize(
    "text",
    [
        b"m",
        b"m0",
        b"m0,",
        b"mzz,1",
        b"m0,-1",
        b"M0,4:00",
        b"Xfff,3:a",
        b"P0",
        b"P0=0",
        b"Pfff=0",
        b"Z0,1",
        b"Z9,0,0",
        b"Z2,0,0",
        b"Z2,0,100000",
        b"vCont;",
        b"vCont;t",
        b"vCont;s:9",
        b"Hx1",
        b"T",
        b"G0",
        b"p",
        b"qRcmd,0",
        b"c?",
        b"Qqemu.PhyMemMode:2",
        b"qThreadExtraInfo,",
        b"m1_0,4",
        b"m123456789,4",
    ],
)
def test_what_is_malformed_is_an_error(model: Model, text: bytes) -> None:
    assert model.packet(text) == [b"E22"]
    assert model.held == {0, 1}


@pytest.mark.parametrize("text", [b"", b"vMustReplyEmpty", b"qSymbol::", b"!", b"R00", b"\xff\xfe"])
def test_what_is_unknown_gets_the_empty_reply(model: Model, text: bytes) -> None:
    assert model.packet(text) == [b""]


def test_vcont() -> None:
    assert parse_vcont(b"s:2;c", 3) == {1: "s", 0: "c", 2: "c"}
    assert parse_vcont(b"C05:1", 3) == {0: "c"}
    assert parse_vcont(b"s:-1", 2) == {0: "s", 1: "s"}


_LETTERS = [
    b"?",
    b"g",
    b"p",
    b"m",
    b"M",
    b"X",
    b"c",
    b"s",
    b"Z",
    b"z",
    b"H",
    b"T",
    b"D",
    b"G",
    b"P",
    b"vCont;",
    b"qRcmd,",
    b"qXfer:features:read:target.xml:",
    b"qThreadExtraInfo,",
    b"S",
    b"C",
    b"k",
    b"Qqemu.PhyMemMode:",
]


_ARGUMENTS = st.one_of(
    st.binary(max_size=12), st.from_regex(rb"[0-9a-f]{0,8}[,:;=]?[0-9a-fcs]{0,6}[,:;]?[0-9a-f]{0,4}", fullmatch=True)
)


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("packet"), st.builds(bytes.__add__, st.sampled_from(_LETTERS), _ARGUMENTS)),
            st.tuples(st.sampled_from(["interrupt", "gone", "attach", "time", "hit", "hear"]), st.integers(0, 1)),
        ),
        max_size=30,
    )
)
def test_whatever_a_client_does_nobody_is_left_behind(story: list[tuple[str, Any]]) -> None:
    """When the client has gone and every vCPU has answered, none is held, and nothing stops one any more."""
    model = Model()
    for what, detail in story:
        match what:
            case "packet":
                model.do(Received(detail))
            case "interrupt":
                model.do(Interrupted())
            case "gone":
                model.do(Gone())
            case "attach" if not model.session.attached:
                model.do(Attached(("", "")))
            case "time":
                model.pass_time(1.0)
            case "hit" if detail not in model.held:
                model.held.add(detail)
                model.do(Told(VcpuHit(detail, HIT_BREAKPOINT, 0, 0)))
    model.do(Gone())
    for _ in range(5):
        model.pass_time(3.0)
    assert model.held == set()
    assert not model.world_is_stopped
    assert all(model.breakpoints(vcpu) == [] for vcpu in range(2))
