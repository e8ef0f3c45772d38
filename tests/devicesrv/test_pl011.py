# SPDX-License-Identifier: GPL-2.0-or-later
"""The UART as guests and Linux's amba-pl011 program it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.devicesrv.device import Wiring
from allstop.devicesrv.models import pl011
from allstop.devicesrv.models.pl011 import Pl011


class Uart:
    """A UART with a console and an interrupt line that can be looked at."""

    def __init__(self) -> None:
        self.printed = bytearray()
        self.levels: list[bool] = []
        self.device = Pl011(Wiring(irq=self.levels.append, console=self.printed.extend))

    def read(self, offset: int) -> int:
        return self.device.read(offset, 4, 0)

    def write(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value, 0)

    def enable(self) -> None:
        self.write(pl011.CR, 0x301)

    def fifo(self, trigger: int = 2) -> None:
        """Enabled, FIFOs on, receive trigger by IFLS[5:3]."""
        self.enable()
        self.write(pl011.LCR_H, 0x70)
        self.write(pl011.IFLS, trigger << 3)

    @property
    def irq(self) -> bool:
        return self.levels[-1] if self.levels else False


@pytest.fixture
def uart() -> Uart:
    return Uart()


def test_linux_finds_it_by_its_identification(uart: Uart) -> None:
    assert [uart.read(offset) for offset in range(0xFE0, 0x1000, 4)] == [0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


def test_prints_at_once_whether_enabled_or_not(uart: Uart) -> None:
    uart.write(pl011.DR, 0x141)
    uart.write(pl011.CR, 0x301)
    uart.write(pl011.DR, ord("b"))
    assert uart.printed == b"Ab"
    assert uart.read(pl011.FR) == pl011.FR_TXFE | pl011.FR_RXFE


def test_registers_keep_what_they_have_bits_for(uart: Uart) -> None:
    assert uart.read(pl011.CR) == 0x300
    assert uart.read(pl011.IFLS) == 0x12
    for offset, kept in (
        (pl011.IBRD, 0xFFFF),
        (pl011.FBRD, 0x3F),
        (pl011.LCR_H, 0xFF),
        (pl011.IFLS, 0x3F),
        (pl011.IMSC, 0x7FF),
        (pl011.DMACR, 7),
        (pl011.ILPR, 0xFF),
    ):
        uart.write(offset, 0xFFFF_FFFF)
        assert uart.read(offset) == kept


@pytest.mark.parametrize("offset", [0x08, 0x4C, 0xFDC, 0xFE2, 0x02])
def test_no_register_reads_zero_and_is_counted(uart: Uart, offset: int) -> None:
    assert uart.read(offset) == 0
    uart.write(offset, 1)
    assert uart.device.guest_mistakes == 2


def test_read_only_registers_ignore_writes(uart: Uart) -> None:
    for offset in (pl011.FR, pl011.RIS, pl011.MIS, 0xFE0):
        uart.write(offset, 0xFFFF)
    assert uart.device.guest_mistakes == 4
    assert uart.read(pl011.RIS) == 0


def test_transmit_interrupt_comes_after_a_character_and_is_cleared_by_icr(uart: Uart) -> None:
    uart.write(pl011.IMSC, pl011.INT_TX)
    assert not uart.irq, "the FIFO has not gone through its trigger level yet"
    uart.write(pl011.DR, 0)
    assert uart.irq
    assert uart.read(pl011.RIS) == uart.read(pl011.MIS) == pl011.INT_TX
    uart.write(pl011.ICR, pl011.INT_TX)
    assert not uart.irq
    uart.write(pl011.DR, 0)
    uart.write(pl011.IMSC, 0)
    assert not uart.irq
    assert (uart.read(pl011.RIS), uart.read(pl011.MIS)) == (pl011.INT_TX, 0)
    assert uart.levels == [True, False, True, False], "the line is driven on changes only"


def test_without_fifos_one_character_waits(uart: Uart) -> None:
    uart.enable()
    uart.write(pl011.IMSC, pl011.INT_RX)
    assert uart.device.receive(b"xyz") == 1
    assert uart.read(pl011.FR) & (pl011.FR_RXFF | pl011.FR_RXFE) == pl011.FR_RXFF
    assert uart.irq
    assert uart.device.receive(b"yz") == 0
    assert uart.read(pl011.DR) == ord("x")
    assert not uart.irq
    assert uart.read(pl011.FR) & (pl011.FR_RXFF | pl011.FR_RXFE) == pl011.FR_RXFE


@pytest.mark.parametrize(("ifls", "characters"), [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14), (7, 14)])
def test_receive_interrupt_at_the_trigger_level(uart: Uart, ifls: int, characters: int) -> None:
    uart.fifo(trigger=ifls)
    uart.write(pl011.IMSC, pl011.INT_RX)
    assert uart.device.receive(bytes(characters - 1)) == characters - 1
    assert not uart.irq
    uart.device.receive(b"!")
    assert uart.irq
    uart.read(pl011.DR)
    assert not uart.irq


def test_characters_below_the_trigger_level_time_out(uart: Uart) -> None:
    uart.fifo()
    uart.write(pl011.IMSC, pl011.INT_RX_TIMEOUT)
    uart.device.receive(b"ab")
    assert uart.irq
    assert uart.read(pl011.DR) == ord("a")
    assert uart.irq, "one still waits"
    assert uart.read(pl011.DR) == ord("b")
    assert not uart.irq


def test_what_is_left_below_the_trigger_level_times_out_too(uart: Uart) -> None:
    uart.fifo()
    uart.write(pl011.IMSC, pl011.INT_RX | pl011.INT_RX_TIMEOUT)
    uart.device.receive(bytes(9))
    for left in range(8, -1, -1):
        assert uart.irq, "a driver that waits for the interrupt must get every character"
        uart.read(pl011.DR)
        assert uart.irq == bool(left)


def test_switching_the_fifo_empties_it(uart: Uart) -> None:
    uart.fifo()
    uart.device.receive(b"abc")
    uart.write(pl011.LCR_H, 0x60)
    assert uart.read(pl011.FR) & pl011.FR_RXFE
    assert uart.read(pl011.RIS) == 0, "or a handler would look for them forever"


def test_input_waits_until_the_guest_has_enabled_the_receiver(uart: Uart) -> None:
    assert uart.device.receive(b"a") == 0
    uart.write(pl011.LCR_H, 0x70)
    for control in (0x000, 0x101, 0x200, 0x301 | pl011.CR_LOOPBACK):
        uart.write(pl011.CR, control)
        uart.read(pl011.FR)
        assert not uart.device.listening
        assert uart.device.receive(b"a") == 0
    uart.enable()
    assert uart.device.listening
    assert uart.device.receive(b"a") == 1


def test_a_driver_that_waits_for_input_has_enabled_an_interrupt_for_it(uart: Uart) -> None:
    uart.enable()
    assert not uart.device.opened
    for interrupts in (pl011.INT_RX, pl011.INT_RX_TIMEOUT):
        uart.write(pl011.IMSC, interrupts | pl011.INT_TX)
        assert uart.device.opened
        uart.write(pl011.IMSC, pl011.INT_TX)
        assert not uart.device.opened


def test_a_guest_that_looks_for_input_without_enabling_the_uart_gets_it(uart: Uart) -> None:
    uart.write(pl011.DR, ord("?"))
    assert uart.device.receive(b"a") == 0
    assert uart.read(pl011.FR) & pl011.FR_RXFE
    assert uart.device.receive(b"a") == 1
    assert uart.read(pl011.DR) == ord("a")


def test_what_icr_clears_comes_back_with_the_next_character_or_the_next_read(uart: Uart) -> None:
    uart.fifo()
    uart.device.receive(bytes(10))
    assert uart.read(pl011.RIS) == pl011.INT_RX
    uart.write(pl011.ICR, 0x7FF)
    assert uart.read(pl011.RIS) == 0
    uart.device.receive(b"a")
    assert uart.read(pl011.RIS) == pl011.INT_RX
    uart.write(pl011.ICR, 0x7FF)
    uart.read(pl011.DR)
    assert uart.read(pl011.RIS) == pl011.INT_RX_TIMEOUT


def test_modem_inputs_are_the_outputs_in_loopback_and_interrupt_when_they_change(uart: Uart) -> None:
    modem = pl011.FR_CTS | pl011.FR_DSR | pl011.FR_DCD | pl011.FR_RI
    outputs = pl011.CR_RTS | pl011.CR_DTR | pl011.CR_OUT1 | pl011.CR_OUT2
    uart.write(pl011.CR, 0x301 | outputs)
    assert uart.read(pl011.FR) & modem == 0
    for output, flag, interrupt in (
        (pl011.CR_OUT2, pl011.FR_RI, 1),
        (pl011.CR_RTS, pl011.FR_CTS, 2),
        (pl011.CR_OUT1, pl011.FR_DCD, 4),
        (pl011.CR_DTR, pl011.FR_DSR, 8),
    ):
        uart.write(pl011.CR, 0x301 | pl011.CR_LOOPBACK)
        uart.write(pl011.ICR, 0x7FF)
        uart.write(pl011.CR, 0x301 | pl011.CR_LOOPBACK | output)
        assert uart.read(pl011.FR) & modem == flag
        assert uart.read(pl011.RIS) == interrupt


def test_loopback_receives_what_it_sends_and_overruns(uart: Uart) -> None:
    uart.write(pl011.CR, 0x301 | pl011.CR_LOOPBACK)
    uart.write(pl011.DR, ord("a"))
    uart.write(pl011.DR, ord("b"))
    assert uart.printed == b""
    assert uart.read(pl011.RIS) & pl011.INT_OVERRUN
    assert uart.read(pl011.RSR) == pl011.RSR_OVERRUN
    assert uart.read(pl011.DR) == ord("a") | pl011.DR_OVERRUN
    uart.write(pl011.RSR, 0)
    assert uart.read(pl011.RSR) == 0
    assert uart.read(pl011.DR) == 0, "b is lost"


def test_the_character_read_after_an_overrun_says_so_once_and_rsr_until_it_is_cleared(uart: Uart) -> None:
    uart.fifo()
    uart.write(pl011.CR, 0x301 | pl011.CR_LOOPBACK)
    for character in range(17):
        uart.write(pl011.DR, character)
    assert [uart.read(pl011.DR) for _ in range(3)] == [pl011.DR_OVERRUN, 1, 2]
    assert uart.read(pl011.RSR) == pl011.RSR_OVERRUN
    assert uart.read(pl011.RIS) & pl011.INT_OVERRUN
    uart.write(pl011.RSR, 0xFF)
    assert uart.read(pl011.RSR) == 0
    uart.write(pl011.ICR, pl011.INT_OVERRUN)
    assert not uart.read(pl011.RIS) & pl011.INT_OVERRUN


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20) | st.integers(1, 20), max_size=30))
def test_every_character_arrives_in_order_and_the_interrupt_never_forgets_one(course: list[bytes | int]) -> None:
    """Bytes arrive, a number of reads: what was taken is what is read, and while something waits the line is high."""
    uart = Uart()
    uart.fifo()
    uart.write(pl011.IMSC, pl011.INT_RX | pl011.INT_RX_TIMEOUT)
    taken, seen = bytearray(), bytearray()
    for step in course:
        if isinstance(step, bytes):
            taken += step[: uart.device.receive(step)]
        else:
            for _ in range(step):
                if not uart.read(pl011.FR) & pl011.FR_RXFE:
                    seen.append(uart.read(pl011.DR))
        assert uart.irq == (len(seen) < len(taken))
        assert len(taken) - len(seen) <= pl011.FIFO_DEPTH
    assert taken.startswith(seen)


class ReferenceUart:
    """What chapter 3 of the manual says, in the plainest way: lists, and every condition looked at anew."""

    TRIGGERS = (2, 4, 8, 12, 14, 14, 14, 14)

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.fifo = self.overrun = self.lost = self.loopback = False
        self.ifls = 2
        self.asserted: set[str] = set()
        self.mask: set[str] = set()
        self.sent: list[int] = []

    @property
    def room(self) -> int:
        return (16 if self.fifo else 1) - len(self.waiting)

    @property
    def level(self) -> int:
        return self.TRIGGERS[self.ifls] if self.fifo else 1

    def arrive(self, characters: bytes) -> int:
        """How many were received."""
        if self.loopback:
            return 0
        taken = characters[: max(self.room, 0)]
        self.waiting += taken
        if taken:
            self.asserted.add("rx" if len(self.waiting) >= self.level else "timeout")
        return len(taken)

    def send(self, character: int) -> None:
        self.asserted.add("tx")
        if not self.loopback:
            self.sent.append(character)
        elif self.room > 0:
            self.waiting.append(character)
            self.asserted.add("rx" if len(self.waiting) >= self.level else "timeout")
        else:
            self.overrun = self.lost = True
            self.asserted.add("overrun")

    def take(self) -> int:
        value = self.waiting.pop(0) if self.waiting else 0
        if self.lost:
            value += 1 << 11
            self.lost = False
        if len(self.waiting) < self.level:
            self.asserted.discard("rx")
        if not self.waiting:
            self.asserted.discard("timeout")
        elif "rx" not in self.asserted:
            self.asserted.add("timeout")
        return value

    def switch_fifo(self, on: bool) -> None:
        if on != self.fifo:
            self.waiting.clear()
            self.asserted -= {"rx", "timeout"}
        self.fifo = on


_NAMES = {"rx": pl011.INT_RX, "tx": pl011.INT_TX, "timeout": pl011.INT_RX_TIMEOUT, "overrun": pl011.INT_OVERRUN}
_SETS = st.sets(st.sampled_from(sorted(_NAMES)))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.binary(max_size=20)),
        st.tuples(st.just("send"), st.integers(0, 255)),
        st.tuples(st.just("take"), st.integers(1, 18)),
        st.tuples(st.just("fifo"), st.booleans()),
        st.tuples(st.just("ifls"), st.integers(0, 7)),
        st.tuples(st.just("loopback"), st.booleans()),
        st.tuples(st.just("mask"), _SETS),
        st.tuples(st.just("clear"), _SETS),
        st.tuples(st.just("ecr"), st.none()),
    ),
    max_size=40,
)


def _bits(names: set[str]) -> int:
    return sum(_NAMES[name] for name in names)


@given(_STEPS)
def test_it_is_the_uart_of_the_manual(course: list[tuple[str, object]]) -> None:
    uart, model = Uart(), ReferenceUart()
    uart.enable()
    for what, argument in course:
        if what == "arrive":
            assert uart.device.receive(argument) == model.arrive(argument)  # type: ignore[arg-type]
        elif what == "send":
            uart.write(pl011.DR, argument)  # type: ignore[arg-type]
            model.send(argument)  # type: ignore[arg-type]
        elif what == "take":
            for _ in range(argument):  # type: ignore[call-overload]
                assert uart.read(pl011.DR) == model.take()
        elif what == "fifo":
            uart.write(pl011.LCR_H, 0x70 if argument else 0x60)
            model.switch_fifo(bool(argument))
        elif what == "ifls":
            uart.write(pl011.IFLS, argument << 3)  # type: ignore[operator]
            model.ifls = argument  # type: ignore[assignment]
        elif what == "loopback":
            uart.write(pl011.CR, 0x301 | (pl011.CR_LOOPBACK if argument else 0))
            model.loopback = bool(argument)
        elif what == "mask":
            uart.write(pl011.IMSC, _bits(argument))  # type: ignore[arg-type]
            model.mask = argument  # type: ignore[assignment]
        elif what == "clear":
            uart.write(pl011.ICR, _bits(argument))  # type: ignore[arg-type]
            model.asserted -= argument  # type: ignore[operator]
        else:
            uart.write(pl011.RSR, 0)
            model.overrun = False
        assert uart.read(pl011.RIS) == _bits(model.asserted)
        assert uart.read(pl011.MIS) == _bits(model.asserted & model.mask)
        assert uart.irq == bool(model.asserted & model.mask)
        assert uart.read(pl011.RSR) == (pl011.RSR_OVERRUN if model.overrun else 0)
        flags = uart.read(pl011.FR)
        assert bool(flags & pl011.FR_RXFE) == (not model.waiting)
        assert bool(flags & pl011.FR_RXFF) == (model.room <= 0)
        assert list(uart.printed) == model.sent
