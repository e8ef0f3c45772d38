# SPDX-License-Identifier: GPL-2.0-or-later
"""The decoder and its execution against the engine: the same instruction, run by both, must do the same.

Set ALLSTOP_DECODER_SAMPLES to run more than the default number of instructions, ALLSTOP_DECODER_SEED to draw
others; `pytest -s` shows how often each class was compared.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.encodings import ENCODINGS
from allstop.vm.arm.execution import Access, Effects, Plan, finish, plan
from allstop.vm.arm.instruction import Exclusive, Instruction, Multiple, StoreReturnState, UndecodableError
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.sampling import CLASS_NAMES, Sample, Scene, sample, stage
from allstop.vm.arm.vector import NeonStructure, VfpMultiple, VfpSingle

SAMPLES = int(os.environ.get("ALLSTOP_DECODER_SAMPLES", "8000"))
SEED = int(os.environ.get("ALLSTOP_DECODER_SEED", "20130611"))


def perform(accesses: tuple[Access, ...], memory: bytearray, base: int) -> list[int]:
    """Make the accesses on plain memory that begins at `base`; the values of the reads."""
    values = []
    for access in accesses:
        place = slice(access.address - base, access.address - base + access.size)
        if access.value is None:
            values.append(int.from_bytes(memory[place], "little"))
        else:
            memory[place] = access.value.to_bytes(access.size, "little")
    return values


def bytes_touched(accesses: Any) -> list[tuple[int, bool]]:
    """Each byte of a sequence of accesses, in order, and whether it was written."""
    return [(access.address + k, access.write) for access in accesses for k in range(access.size)]


def difference(native: Any, scene: Scene, instruction: Instruction) -> str | None:
    """Run the scene on the engine and in the model; what differs, or None."""
    vector = isinstance(instruction, VfpSingle | VfpMultiple | NeonStructure)
    banked = isinstance(instruction, StoreReturnState) or isinstance(instruction, Multiple) and instruction.user
    if isinstance(instruction, Exclusive) and not instruction.reads:
        native.open_monitor(scene.exclusive.address, instruction.size, scene.cpsr)
    planned = plan(instruction, scene)
    outcome = native.run(scene, vector, banked)
    base = 0x10000
    memory = bytearray(native.before)
    effects = finish(planned, perform(planned.accesses, memory, base))
    r = [*scene.r[:15], effects.pc]
    for number, value in effects.registers.items():
        r[number] = value
    if tuple(r) != outcome.r:
        differing = {n: (hex(a), hex(b)) for n, (a, b) in enumerate(zip(r, outcome.r, strict=True)) if a != b}
        return f"registers (model, engine) {differing}, error {outcome.error}"
    cpsr = scene.cpsr if effects.cpsr is None else effects.cpsr
    if isinstance(instruction, StoreReturnState) and psr.itstate(scene.cpsr) & 0xF == 8:
        # A fault of the engine: an SRS that ends an IT block leaves its ITSTATE behind.
        cpsr = scene.cpsr
    if cpsr != outcome.cpsr:
        return f"CPSR {cpsr:#x}, engine {outcome.cpsr:#x}"
    if memory != native.ram[:]:
        return "memory"
    if vector:
        doubles = [effects.vfp.get(n, old) for n, old in enumerate(scene.doubles)]
        if tuple(doubles) != outcome.doubles:
            return "D registers"
    if banked and (differs := banks_differ(scene, effects, outcome.banks)):
        return differs
    return monitor_differs(native, instruction, planned, effects)


def accesses_differ(traced: Any, scene: Scene, instruction: Instruction) -> str | None:
    """Run the scene on the engine that records accesses; whether they are other ones, or in another order."""
    store_exclusive = isinstance(instruction, Exclusive) and not instruction.reads
    if isinstance(instruction, Exclusive) and not instruction.reads:
        traced.open_monitor(scene.exclusive.address, instruction.size, scene.cpsr)
    planned = plan(instruction, scene).accesses
    # On its own the engine implements a store exclusive by reading, comparing and writing.
    touched = [touch for touch in traced.run(scene).touched if touch.write or not store_exclusive]
    if bytes_touched(planned) == bytes_touched(touched):
        return None
    return f"accesses {planned}, engine {touched}"


def banks_differ(scene: Scene, effects: Effects, after: dict[tuple[Mode, int], int]) -> str | None:
    """Compare the registers of the other modes; those of the current mode are compared already."""
    expected = dict(scene.banks)
    expected |= {(Mode.USER, n): value for n, value in effects.user_registers.items()}
    expected |= {(mode, 13): value for mode, value in effects.stack_pointers.items()}
    for n in range(8, 15):
        if not psr.banked_from_user(scene.cpsr, n):
            expected[Mode.USER, n] = effects.registers.get(n, expected[Mode.USER, n])
    own = Mode(scene.cpsr & psr.MODE)
    if (own, 13) in expected and own not in psr.USER_BANK:
        expected[own, 13] = effects.registers.get(13, expected[own, 13])
    wrong = {key: (hex(expected[key]), hex(after[key])) for key in expected if expected[key] != after[key]}
    return f"banked registers (model, engine) {wrong}" if wrong else None


def monitor_differs(native: Any, instruction: Instruction, planned: Plan, effects: Effects) -> str | None:
    """Ask the engine's monitor with one more store exclusive."""
    if not isinstance(instruction, Exclusive):
        return None
    assert effects.exclusive is not None
    address = effects.exclusive.address
    asked = 0x10000 if address is None else address
    status = native.store_exclusive_status(asked, instruction.size, planned.cpsr)
    return None if status == int(address is None) else f"monitor {effects.exclusive}, but status {status}"


def coverage(seen: Counter[str]) -> str:
    """How often each class was compared; shown by `pytest -s`."""
    table = [f"{seen[name]:8} {name}" for name in CLASS_NAMES]
    return "\n".join([*table, f"{seen.total():8} instructions of {len(seen)} classes (of {len(CLASS_NAMES)})"])


def compare(native: Any, traced: Any, rng: Random, drawn: Sample) -> str | None:
    """What differs when a sample is run, empty if nothing does; None where it cannot be staged."""
    pc = native.pc(rng, drawn.thumb)
    scene = stage(rng, drawn, pc, native.reachable(pc))
    if scene is None:
        return None
    instruction = decode(drawn.word, drawn.thumb)
    differs = difference(native, scene, instruction) or accesses_differ(traced, scene, instruction)
    return f"{drawn.class_name}: {drawn.word:#x} {instruction}: {differs}" if differs else ""


def test_every_class_executes_as_on_the_engine(native: Any, traced: Any) -> None:
    rng = Random(SEED)
    seen: Counter[str] = Counter()
    failures: list[str] = []
    while seen.total() < SAMPLES and len(failures) < 20:
        drawn = sample(rng)
        assert decode(drawn.word, drawn.thumb).class_name == drawn.class_name
        differs = compare(native, traced, rng, drawn)
        if differs is None:
            continue
        seen[drawn.class_name] += 1
        if differs:
            failures.append(differs)
    print(coverage(seen))
    assert not failures, "\n".join(failures)
    if SAMPLES >= 8000:
        assert seen.keys() == set(CLASS_NAMES)


def test_what_is_unpredictable_and_decoded_executes_as_on_the_engine(native: Any, traced: Any) -> None:
    rng = Random(SEED)
    count = 0
    failures: list[str] = []
    while count < SAMPLES // 20 and len(failures) < 20:
        legal = sample(rng)
        word = legal.word
        for _ in range(rng.randrange(1, 4)):
            word ^= 1 << rng.randrange(16 if legal.class_name.startswith("T16") else 32)
        try:
            name = decode(word, legal.thumb).class_name
            drawn = Sample(word, legal.thumb, name)
            if any(e.word(word) == word and e.legal(e.fields(word)) for e in ENCODINGS.get(name, ())):
                continue
            differs = compare(native, traced, rng, drawn)
        except UndecodableError:
            continue
        if differs is None:
            continue
        count += 1
        if differs:
            failures.append(differs)
    assert not failures, "\n".join(failures)
