# SPDX-License-Identifier: GPL-2.0-or-later
"""PSCI's numbers, as the specification and device trees have them."""

from __future__ import annotations

from allstop.vm.arm.psci import AffinityState, PsciFunction, PsciReturn


def test_function_identifiers_are_smc32_fast_calls_of_the_standard_service() -> None:
    assert all(function & 0xFFFFFF00 == 0x84000000 for function in PsciFunction)
    assert (PsciFunction.VERSION, PsciFunction.CPU_OFF, PsciFunction.CPU_ON) == (0x84000000, 0x84000002, 0x84000003)
    assert (PsciFunction.SYSTEM_OFF, PsciFunction.SYSTEM_RESET) == (0x84000008, 0x84000009)
    assert (PsciFunction.AFFINITY_INFO, PsciFunction.MIGRATE_INFO_TYPE) == (0x84000004, 0x84000006)
    assert PsciFunction(0x8400000A) is PsciFunction.FEATURES


def test_return_codes_become_registers() -> None:
    assert PsciReturn.SUCCESS.register_value == 0
    assert PsciReturn.NOT_SUPPORTED.register_value == 0xFFFFFFFF
    assert (PsciReturn.INVALID_PARAMETERS, PsciReturn.ALREADY_ON) == (-2, -4)
    assert PsciReturn.ALREADY_ON.register_value == 0xFFFFFFFC


def test_affinity_states() -> None:
    assert [state.name for state in sorted(AffinityState)] == ["ON", "OFF", "ON_PENDING"]
