# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets of gdb's remote protocol, answered. Source: GDB manual, appendix E; where that leaves a choice, as QEMU's
gdbstub does for ARM. Threads are vCPUs, numbered from 1. An unknown packet gets the empty reply, a wrong one an error,
and neither changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable

from allstop.gdbserver.framing import MAX_PACKET_BYTES
from allstop.gdbserver.resumption import Action, parse_vcont
from allstop.gdbserver.session import Ask, HangUp, NoAcks, Reply, Say, Session, Task, Until
from allstop.gdbserver.target import REGISTERS, TARGET_XML
from allstop.vm.arm.registers import CORE
from allstop.vm.wire.messages import (
    HIT_WATCHPOINT,
    DebugDone,
    PeekMemory,
    PokeMemory,
    ReadVcpu,
    SetStops,
    StepVcpu,
    StopRun,
    TranslateAddress,
    VcpuHit,
    WriteVcpu,
)

_SIGINT, _SIGTRAP = 2, 5
_OTHERS_RUN_S = 0.001
_MAX_BREAKPOINTS, _MAX_WATCHPOINTS = 64, 16
_MAX_READ_BYTES = MAX_PACKET_BYTES // 2 - 16
_WATCH_KINDS = {2: 2, 3: 1, 4: 3}  # Z2 writes, Z3 reads, Z4 both, as SetStops names them
_WATCH_WORDS = {2: "watch", 3: "rwatch", 4: "awatch"}
_SUPPORTED = (f"PacketSize={MAX_PACKET_BYTES:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+").encode()
_PC = CORE.index("pc")

_HELP = """\
monitor translate ADDRESS     the physical address behind a virtual one, on the selected vCPU
monitor physical on|off       memory commands take physical addresses
monitor vcpus                 what each vCPU did when the world was stopped
"""


class _Malformed(Exception):
    """A known packet with invalid arguments."""


class Commands:
    """Answers one session's packets; a `session.Answers`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.forget()
        self._applied = [self._stops()] * session.vcpus
        self._plain = {
            b"?": self._why,
            b"g": self._read_all,
            b"G": self._write_all,
            b"p": self._read_one,
            b"P": self._write_one,
            b"m": self._read_memory,
            b"M": self._write_memory,
            b"X": self._write_binary,
            b"c": self._continue,
            b"s": self._step,
            b"C": self._continue_signal,
            b"S": self._step_signal,
            b"Z": self._set_stop,
            b"z": self._clear_stop,
            b"H": self._select,
            b"T": self._is_alive,
            b"D": self._detach,
            b"k": self._kill,
        }
        self._named: tuple[tuple[bytes, Callable[[bytes], Task]], ...] = (
            (b"qSupported", lambda rest: self._say(_SUPPORTED)),
            (b"QStartNoAckMode", self._no_acks),
            (b"qXfer:features:read:target.xml:", self._description),
            (b"qAttached", lambda rest: self._say(b"1")),
            (b"qC", lambda rest: self._say(b"QC%x" % (self._general + 1))),
            (b"qfThreadInfo", self._threads),
            (b"qsThreadInfo", lambda rest: self._say(b"l")),
            (b"qThreadExtraInfo,", self._thread_words),
            (b"qRcmd,", self._monitor),
            (b"qqemu.PhyMemMode", lambda rest: self._say(b"%d" % self._physical)),
            (b"Qqemu.PhyMemMode:", self._set_physical),
            (b"vCont?", lambda rest: self._say(b"vCont;c;C;s;S")),
            (b"vCont;", self._resume_as_told),
            (b"vKill", self._kill_politely),
        )

    # What the session wants

    def serve(self, payload: bytes) -> Task:
        """Answer a packet, in a stopped world. May raise BusyError."""
        try:
            for name, answer in self._named:
                if payload.startswith(name):
                    yield from answer(payload[len(name) :])
                    return
            yield from self._plain.get(payload[:1], self._unknown)(payload[1:])
        except (_Malformed, ValueError):  # int() and bytes.fromhex() raise it for invalid digits
            self._reply(b"E22")  # EINVAL

    def forget(self) -> None:
        """The client has gone: forget its breakpoints and watchpoints."""
        self._breakpoints: set[int] = set()
        self._watchpoints: dict[tuple[int, int, int], None] = {}  # (address, bytes, type of Z)
        self._general = 0  # the vCPU that Hg has selected
        self._control = -1  # the one of Hc, -1 for all
        self._physical = False
        self._registers: dict[int, dict[str, int]] = {}

    def sync(self, vcpus: Iterable[int]) -> Task:
        """Tell vCPUs their breakpoints and watchpoints; wait for a busy one."""
        stops = self._stops()
        late = [vcpu for vcpu in vcpus if self._applied[vcpu] != stops]
        yield Until(lambda: not any(map(self._session.busy, late)))
        answers = yield from self._session.ask_all(late, lambda nonce, vcpu: SetStops(nonce, vcpu, stops), None)
        for answer in answers:
            self._applied[answer.vcpu] = stops
            if answer.sentence:
                self._session.put(Say(f"gdb: vCPU {answer.vcpu} cannot stop everywhere: {answer.sentence}"))

    def report(self, hit: VcpuHit | None, vcpu: int | None) -> bytes:
        """The stop reply for a hit, a step of `vcpu`, or Ctrl-C."""
        self._registers.clear()
        signal, words = _SIGTRAP, ""
        if hit is not None:
            vcpu = hit.vcpu
            words = self._watch_words(hit.address) if hit.cause == HIT_WATCHPOINT else ""
        elif vcpu is None:
            vcpu, signal = self._general, _SIGINT
        self._general = vcpu
        return f"T{signal:02x}thread:{vcpu + 1:x};{words}".encode()

    # Registers

    def _read_registers(self) -> Generator[Until, None, dict[str, int]]:
        vcpu = self._general
        if vcpu not in self._registers:
            answer = yield from self._session.ask(vcpu, lambda nonce: ReadVcpu(nonce, vcpu))
            self._registers[vcpu] = json.loads(answer.data)
        return self._registers[vcpu]

    def _read_all(self, rest: bytes) -> Task:
        values = yield from self._read_registers()
        self._reply("".join(register.to_hex(values[register.name]) for register in REGISTERS).encode())

    def _write_all(self, rest: bytes) -> Task:
        data = bytes.fromhex(rest.decode("ascii"))
        values = yield from self._read_registers()
        place = 0
        for number, register in enumerate(REGISTERS):
            piece = data[place : place + register.width_bytes]
            place += register.width_bytes
            if len(piece) == register.width_bytes and int.from_bytes(piece, "little") != values[register.name]:
                yield from self._write(number, int.from_bytes(piece, "little"))
        self._reply(b"OK")

    def _read_one(self, rest: bytes) -> Task:
        number = _hex(rest)
        if number >= len(REGISTERS):
            raise _Malformed
        values = yield from self._read_registers()
        self._reply(REGISTERS[number].to_hex(values[REGISTERS[number].name]).encode())

    def _write_one(self, rest: bytes) -> Task:
        number, _, value = rest.partition(b"=")
        place, data = _hex(number), bytes.fromhex(value.decode("ascii"))
        if place >= len(REGISTERS) or len(data) != REGISTERS[place].width_bytes:
            raise _Malformed
        self._done((yield from self._write(place, int.from_bytes(data, "little"))))

    def _write(self, number: int, value: int) -> Generator[Until, None, DebugDone]:
        vcpu, name = self._general, REGISTERS[number].name
        self._registers.pop(vcpu, None)
        return (yield from self._session.ask(vcpu, lambda nonce: WriteVcpu(nonce, vcpu, name, value)))

    # Memory

    def _read_memory(self, rest: bytes) -> Task:
        address, length_bytes = _pair(rest)
        data = yield from self._peek(address, min(length_bytes, _MAX_READ_BYTES))
        self._reply(data.hex().encode() if data or not length_bytes else b"E14")

    def _peek(self, address: int, length_bytes: int) -> Generator[Until, None, bytes]:
        vcpu, physical = self._general, self._physical
        answer = yield from self._session.ask(
            vcpu, lambda nonce: PeekMemory(nonce, vcpu, address, length_bytes, physical)
        )
        return answer.data

    def _write_memory(self, rest: bytes) -> Task:
        place, _, digits = rest.partition(b":")
        yield from self._poke(*_pair(place), bytes.fromhex(digits.decode("ascii")))

    def _write_binary(self, rest: bytes) -> Task:
        place, _, data = rest.partition(b":")
        yield from self._poke(*_pair(place), data)

    def _poke(self, address: int, length_bytes: int, data: bytes) -> Task:
        if len(data) != length_bytes:
            raise _Malformed
        if not data:
            self._reply(b"OK")  # so a client asks whether X is known
            return
        vcpu, physical = self._general, self._physical
        answer = yield from self._session.ask(vcpu, lambda nonce: PokeMemory(nonce, vcpu, address, data, physical))
        self._reply(b"E14" if answer.sentence else b"OK")

    # What stops vCPUs

    def _set_stop(self, rest: bytes) -> Task:
        kind, address, length = self._stop_of(rest)
        if kind in (0, 1):
            if len(self._breakpoints | {address}) > _MAX_BREAKPOINTS:
                yield from self._say(b"E28")  # ENOSPC
                return
            self._breakpoints.add(address)
        elif len(self._watchpoints) >= _MAX_WATCHPOINTS and (address, length, kind) not in self._watchpoints:
            yield from self._say(b"E28")
            return
        else:
            self._watchpoints[address, length, kind] = None
        yield from self._say(b"OK")

    def _clear_stop(self, rest: bytes) -> Task:
        kind, address, length = self._stop_of(rest)
        if kind in (0, 1):
            self._breakpoints.discard(address)
        else:
            self._watchpoints.pop((address, length, kind), None)
        yield from self._say(b"OK")

    def _stop_of(self, rest: bytes) -> tuple[int, int, int]:
        """Type, address, and bytes of a Z or z packet."""
        fields = rest.split(b";")[0].split(b",")
        if len(fields) != 3:
            raise _Malformed
        kind, address, length = map(_hex, fields)
        if kind > 4 or address >> 32 or kind > 1 and not 1 <= length <= 4096:
            raise _Malformed
        return kind, address & ~1 if kind < 2 else address, length

    def _stops(self) -> str:
        watches = [[address, length, _WATCH_KINDS[kind]] for address, length, kind in self._watchpoints]
        return json.dumps({"breakpoints": sorted(self._breakpoints), "watchpoints": watches})

    def _watch_words(self, address: int) -> str:
        for start, length, kind in self._watchpoints:
            if start <= address < start + length:
                return f"{_WATCH_WORDS[kind]}:{address:x};"
        return ""

    # Running

    def _continue(self, rest: bytes) -> Task:
        yield from self._run_from(rest, "c")

    def _step(self, rest: bytes) -> Task:
        yield from self._run_from(rest, "s")

    def _continue_signal(self, rest: bytes) -> Task:
        yield from self._run_from(rest.partition(b";")[2], "c")

    def _step_signal(self, rest: bytes) -> Task:
        yield from self._run_from(rest.partition(b";")[2], "s")

    def _run_from(self, address: bytes, action: Action) -> Task:
        """The packets older than vCont: the selected vCPU steps alone, or all go on."""
        if address:
            yield from self._write(_PC, _hex(address))
        if action == "s":
            vcpu = self._general if self._control < 0 else self._control
            yield from self._resume({vcpu: "s"})
        else:
            yield from self._resume({vcpu: "c" for vcpu in range(self._session.vcpus) if self._control in (-1, vcpu)})

    def _resume_as_told(self, rest: bytes) -> Task:
        yield from self._resume(parse_vcont(rest, self._session.vcpus))

    def _resume(self, actions: dict[int, Action]) -> Task:
        """Some vCPUs execute one instruction each while no other runs, then others go on; the rest stay."""
        session = self._session
        if not actions:
            raise _Malformed
        session.runs = True
        session.postpone_hits()
        steppers = [vcpu for vcpu, action in actions.items() if action == "s"]
        runners = [vcpu for vcpu, action in actions.items() if action == "c"]
        if session.hits and runners:
            session.report_stop()  # an access to watched memory that was made before the last stop
            return
        yield from self.sync(actions)
        self._registers.clear()
        for vcpu in steppers:
            session.again.discard(vcpu)  # the instruction at the breakpoint is the one to execute
            answer = yield from session.ask_without_end(vcpu, lambda nonce, vcpu=vcpu: StepVcpu(nonce, vcpu))  # type: ignore[misc]
            if answer.data:
                session.hits.append(VcpuHit(vcpu, HIT_WATCHPOINT, 0, int.from_bytes(answer.data, "little")))
        if runners and not (steppers and session.hits):
            yield from session.go(runners)
            if not steppers:
                return  # a hit or Ctrl-C ends it
            yield from session.pause(_OTHERS_RUN_S)
            yield from session.stop()
        if session.hits:
            session.report_stop()
        else:
            session.stop_reply(None, steppers[0])

    # Threads

    def _select(self, rest: bytes) -> Task:
        vcpu = self._vcpu(rest[1:])
        if rest[:1] == b"g":
            self._general = max(vcpu, 0)
        elif rest[:1] == b"c":
            self._control = vcpu
        else:
            raise _Malformed
        yield from self._say(b"OK")

    def _is_alive(self, rest: bytes) -> Task:
        self._vcpu(rest)
        yield from self._say(b"OK")

    def _threads(self, rest: bytes) -> Task:
        yield from self._say(b"m" + b",".join(b"%x" % (vcpu + 1) for vcpu in range(self._session.vcpus)))

    def _thread_words(self, rest: bytes) -> Task:
        yield from self._say(f"vCPU {(vcpu := self._vcpu(rest))}, {self._session.doing[vcpu]}".encode().hex().encode())

    def _vcpu(self, thread: bytes) -> int:
        """A thread's vCPU; any is the one at hand, all is -1."""
        if thread == b"-1":
            return -1
        number = _hex(thread)
        if number > self._session.vcpus:
            raise _Malformed
        return number - 1 if number else self._general

    # The rest

    def _why(self, rest: bytes) -> Task:
        yield from self._say(self.report(None, self._general))

    def _description(self, rest: bytes) -> Task:
        offset, length = _pair(rest)
        piece = TARGET_XML[offset : offset + length]
        yield from self._say((b"m" if offset + length < len(TARGET_XML) else b"l") + piece)

    def _no_acks(self, rest: bytes) -> Task:
        self._reply(b"OK")
        self._session.put(NoAcks())
        yield from ()

    def _set_physical(self, rest: bytes) -> Task:
        if rest not in (b"0", b"1"):
            raise _Malformed
        self._physical = rest == b"1"
        yield from self._say(b"OK")

    def _detach(self, rest: bytes) -> Task:
        self._reply(b"OK")
        self._session.detach()
        yield from ()

    def _kill(self, rest: bytes) -> Task:
        self._session.put(Ask(StopRun()))
        self._session.put(HangUp())
        self._session.detach()
        yield from ()

    def _kill_politely(self, rest: bytes) -> Task:
        self._reply(b"OK")
        yield from self._kill(rest)

    def _monitor(self, rest: bytes) -> Task:
        words = bytes.fromhex(rest.decode("ascii")).decode(errors="replace").split()
        match words:
            case ["physical", ("on" | "off") as state]:
                self._physical = state == "on"
                text = f"memory commands take {'physical' if self._physical else 'virtual'} addresses\n"
            case ["translate", address]:
                text = yield from self._translated(address)
            case ["vcpus"]:
                text = "".join(f"vCPU {vcpu}: {doing}\n" for vcpu, doing in enumerate(self._session.doing))
            case _:
                text = _HELP
        self._reply(text.encode().hex().encode())

    def _translated(self, text: str) -> Generator[Until, None, str]:
        try:
            address = int(text, 0) & 0xFFFFFFFF
        except ValueError:
            return f"{text} is no address\n"
        vcpu = self._general
        answer = yield from self._session.ask(vcpu, lambda nonce: TranslateAddress(nonce, vcpu, address))
        if not answer.data:
            return f"vCPU {vcpu} has no translation for {address:#010x}\n"
        return f"{address:#010x} is {int.from_bytes(answer.data, 'little'):#010x} on vCPU {vcpu}\n"

    def _unknown(self, rest: bytes) -> Task:
        yield from self._say(b"")

    def _say(self, payload: bytes) -> Task:
        self._reply(payload)
        yield from ()

    def _done(self, answer: DebugDone) -> None:
        self._reply(b"E01" if answer.sentence else b"OK")

    def _reply(self, payload: bytes) -> None:
        self._session.put(Reply(payload))


def _hex(digits: bytes) -> int:
    if not digits or len(digits) > 16 or not digits.isalnum():  # int() takes more than hexadecimal digits
        raise _Malformed
    return int(digits, 16)


def _pair(text: bytes) -> tuple[int, int]:
    """ADDRESS,LENGTH."""
    first, _, second = text.partition(b",")
    address, length = _hex(first), _hex(second)
    if address >> 32 or length >> 32:
        raise _Malformed
    return address, length
