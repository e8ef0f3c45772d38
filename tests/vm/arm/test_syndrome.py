# SPDX-License-Identifier: GPL-2.0-or-later
"""The HSR's fields, and the names of trapped maintenance operations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.arm.syndrome import ExceptionClass, Syndrome, cp15_name, ipa


def test_a_load_with_syndrome() -> None:
    # EC 0x24, IL, ISV, SAS halfword, SSE, SRT r8, read, translation fault at level 3.
    syndrome = Syndrome(0x24 << 26 | 1 << 25 | 1 << 24 | 1 << 22 | 1 << 21 | 8 << 16 | 0x07)
    assert syndrome.ec == ExceptionClass.DATA_ABORT_LOWER
    assert (syndrome.il, syndrome.isv, syndrome.sas, syndrome.sse, syndrome.srt) == (4, True, 2, True, 8)
    assert (syndrome.wnr, syndrome.cm, syndrome.s1ptw, syndrome.dfsc) == (False, False, False, 7)
    assert (syndrome.is_translation, syndrome.is_permission, syndrome.level) == (True, False, 3)


def test_a_store_without_syndrome() -> None:
    syndrome = Syndrome(0x24 << 26 | 1 << 25 | 1 << 6 | 0x0F)
    assert (syndrome.isv, syndrome.wnr, syndrome.is_permission, syndrome.level) == (False, True, True, 3)
    assert repr(syndrome) == "Syndrome(0x9200004f)"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0x05, "translation"), (0x07, "translation"), (0x09, "access_flag"), (0x0D, "permission"), (0x10, "external")]
    + [(0x15, "external"), (0x17, "external"), (0x21, "alignment"), (0x22, None), (0x30, None)],
)
def test_each_fault_status_is_of_one_kind(status: int, kind: str | None) -> None:
    syndrome = Syndrome(0x24 << 26 | status)
    kinds = ("translation", "access_flag", "permission", "external", "alignment")
    assert [k for k in kinds if getattr(syndrome, f"is_{k}")] == ([kind] if kind else [])


def test_the_ipa_joins_page_and_offset() -> None:
    assert ipa(0x00090000, 0xC0DE1018) == 0x09000018
    assert ipa(0xFFFFFFF5, 0xFFF) == 0xFFFFFFFFFF


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (0xEE080F13, "TLBIALLIS"),  # mcr p15, 0, r0, c8, c3, 0
        (0xEE081F33, "TLBIMVAIS"),
        (0xEE080F17, "TLBIALL"),
        (0xEE070F15, "ICIALLU"),
        (0xEE070F11, "ICIALLUIS"),
        (0xEE070F3B, "DCCMVAU"),
        (0xEE070F78, "ATS1CUW"),
        (0xEE070F14, "PAR"),
        (0xEE010F10, None),  # SCTLR
        (0xEE880F13, None),  # opc1 4: Hyp's own, not the guest's
    ],
)
def test_a_trapped_register_move_is_named(word: int, name: str | None) -> None:
    # The instruction's fields, put where the architecture's MCR/MRC syndrome has them.
    opc1, crn, rt, opc2, crm = word >> 21 & 7, word >> 16 & 15, word >> 12 & 15, word >> 5 & 7, word & 15
    iss = opc2 << 17 | opc1 << 14 | crn << 10 | rt << 5 | crm << 1 | word >> 20 & 1
    syndrome = Syndrome(0x03 << 26 | 1 << 25 | 1 << 24 | 0xE << 20 | iss)
    assert (syndrome.opc1, syndrome.crn, syndrome.crm, syndrome.opc2) == (opc1, crn, crm, opc2)
    assert (syndrome.rt, syndrome.is_read) == (rt, False)
    assert cp15_name(syndrome.iss) == name


def test_a_trapped_double_move() -> None:
    # mrrc p15, 6, r2, r3, c2 as CP15_64: opc1 at [19:16], Rt2 at [13:10], Rt at [8:5], CRm at [4:1].
    syndrome = Syndrome(0x04 << 26 | 6 << 16 | 3 << 10 | 2 << 5 | 2 << 1 | 1)
    assert (syndrome.opc1, syndrome.rt2, syndrome.rt, syndrome.crm, syndrome.is_read) == (6, 3, 2, 2, True)


@given(st.integers(0, 0xFFFFFFFF))
def test_a_syndrome_is_a_value_that_does_not_change(hsr: int) -> None:
    syndrome: Any = Syndrome(hsr)
    assert syndrome == Syndrome(hsr)
    assert hash(syndrome) == hash(Syndrome(hsr))
    assert syndrome.ec << 26 | (syndrome.il == 4) << 25 | syndrome.iss == hsr
    with pytest.raises(AttributeError):
        syndrome.hsr = 0


HEADER = (Path(__file__).parents[3] / "vcpu_worker" / "engine" / "arm" / "syndrome.h").read_text()
FIELDS = {
    "abort": {
        "isv": "isv",
        "size": "sas",
        "sign_extends": "sse",
        "register_number": "srt",
        "is_cache_maintenance": "cm",
        "s1ptw": "s1ptw",
        "writes": "wnr",
    },
    "coprocessor": {
        "opc2": "opc2",
        "opc1": "opc1",
        "crn": "crn",
        "register_number": "rt",
        "crm": "crm",
        "reads": "is_read",
    },
}


def test_the_engine_knows_the_same_exception_classes() -> None:
    classes = {name: int(value, 16) for name, value in re.findall(r"CLASS_(\w+) = (0x\w+)", HEADER)}
    assert classes and set(classes.values()) <= {int(known) for known in ExceptionClass}
    assert classes["DATA_ABORT"] == ExceptionClass.DATA_ABORT_LOWER
    assert classes["PREFETCH_ABORT"] == ExceptionClass.PREFETCH_ABORT_LOWER


@given(st.integers(0, 0xFFFFFFFF))
def test_the_engine_decodes_every_field_alike(hsr: int) -> None:
    """The initialisers of the C struct, evaluated: shifts and masks read the same in both languages."""
    syndrome = Syndrome(0x03 << 26 | hsr & 0x3FFFFFF)  # opc1 depends on the class
    for group, names in FIELDS.items():
        body = re.search(rf"\.{group} = {{(.*?)\n        }}", HEADER, re.DOTALL)
        assert body is not None
        written = dict(re.findall(r"\.(\w+) = (.*),", body[1]))
        assert set(written) == set(names)
        for name, expression in written.items():
            assert eval(expression.replace("1u", "1").replace("(uint8_t)", ""), {"hsr": syndrome.hsr}) == getattr(
                syndrome, names[name]
            ), name
