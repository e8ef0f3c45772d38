# SPDX-License-Identifier: GPL-2.0-or-later
"""Every load and store encoding of ARMv7-A as a bit pattern, by class, with what makes it legal.

This table is written from the architecture's encoding diagrams and knows nothing of the decoder: the two
check each other. A pattern names each bit, from the highest: `0` and `1` are fixed, a letter is a bit of the
field of that name, whose bits are joined in the order in which they stand. The condition under which the
fields are legal (a predicate on them) leaves out what the architecture calls UNPREDICTABLE:

* PC where it is not allowed: as index register, as base with writeback, as byte, halfword, signed, dual,
  exclusive or swapped register, as target of a T variant load, as register of a Thumb store; SP where Thumb
  does not allow it;
* writeback with a base that is also loaded or stored (STM of the lowest register excepted), exclusives whose
  status register is also an operand, LDRD whose index or second register is overwritten;
* LDM and STM of no register, in Thumb of fewer than two; LDM and STM of User-mode registers with writeback;
* VFP and NEON transfers of no register or beyond the last; SRS to a mode that no guest has;
* a literal for PC that is not aligned to a word;
* fields that should be zero or one and are not.

Source: ARM DDI 0406C, chapters A6 to A8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from allstop.vm.arm.psr import GUEST_MODES

Fields = dict[str, int]
Rule = Callable[[Fields], bool]
Class = tuple[str, str, tuple[Rule, ...]]
"""A class without its instruction set, a pattern, and the rules for its fields."""

_PC = frozenset({15})
_SP_PC = frozenset({13, 15})


@dataclass(frozen=True, slots=True)
class Encoding:
    """One encoding diagram: the class it belongs to, its pattern, and the rules that make its fields legal.

    Letters: c condition, n base, t and s registers transferred, d status, m index, i constant, u sign of the
    offset, z and y shift, l register list, v vector register, x lane, a alignment, g mode.
    """

    class_name: str
    pattern: str
    rules: tuple[Rule, ...]

    @property
    def thumb(self) -> bool:
        """Whether this is a Thumb encoding."""
        return not self.class_name.startswith("A32")

    @property
    def letters(self) -> frozenset[str]:
        """The fields it has."""
        return frozenset(self.pattern) - {"0", "1"}

    def legal(self, fields: Fields) -> bool:
        """Whether the instruction with these fields is not UNPREDICTABLE (nor another class's)."""
        return fields.get("c") != 15 and all(rule(fields) for rule in self.rules)

    def fields(self, word: int) -> Fields:
        """The fields of `word`, whose fixed bits are not looked at."""
        fields = dict.fromkeys(self.letters, 0)
        for position, letter in enumerate(self.pattern):
            if letter in fields:
                fields[letter] = fields[letter] << 1 | word >> len(self.pattern) - 1 - position & 1
        return fields

    def word(self, variable: int) -> int:
        """The instruction whose fixed bits are the pattern's, and the others those of `variable`."""
        fixed = int(self.pattern.translate(_FIXED_BITS), 2)
        return fixed | variable & int(self.pattern.translate(_VARIABLE_BITS), 2)


_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_FIXED_BITS = str.maketrans(dict.fromkeys(_ALPHABET, "0"))
_VARIABLE_BITS = str.maketrans({"0": "0", "1": "0"} | dict.fromkeys(_ALPHABET, "1"))


def _never(numbers: frozenset[int], *letters: str) -> Rule:
    """No field of these has one of these numbers."""
    return lambda f: all(f.get(letter) not in numbers for letter in letters)


def _apart(letter: str, *others: str) -> Rule:
    """A register is none of the others."""
    return lambda f: all(f[letter] != f.get(other) for other in others)


def _other_than(**numbers: int) -> Rule:
    """The fields do not all have these numbers at once: that would be another class."""
    return lambda f: any(f[letter] != number for letter, number in numbers.items())


def _even_pair(f: Fields) -> bool:
    """The doubleword register of A32: even, and its successor not PC."""
    return not f["t"] & 1 and f["t"] != 14


def _apart_from_pair(letter: str) -> Rule:
    """A register is neither of the doubleword's two."""
    return lambda f: f[letter] not in (f["t"], f["t"] + 1)


def _whole_word(f: Fields) -> bool:
    """The literal that goes to PC is aligned to a word."""
    return not f["i"] & 3


def _listed(least: int) -> Rule:
    """The list names so many registers, PC not counted."""
    return lambda f: f["l"].bit_count() >= least


def _base_unlisted(f: Fields) -> bool:
    return not f["l"] >> f["n"] & 1


def _base_unlisted_or_lowest(f: Fields) -> bool:
    return not f["l"] >> f["n"] & 1 or not f["l"] & (1 << f["n"]) - 1


_INDEXED = {"": ("1u", "0"), " pre": ("1u", "1"), " post": ("0u", "0")}
"""The bits P, U and W of each addressing form in A32."""


def _a32_single() -> Iterator[Class]:
    for name, b, load in (("LDR", "0", "1"), ("STR", "0", "0"), ("LDRB", "1", "1"), ("STRB", "1", "0")):
        for t, pc in (("tttt", ""), ("1111", " PC")) if b == "0" else (("tttt", ""),):
            target = () if pc else (_never(_PC, "t"),)
            for form, (pu, w) in _INDEXED.items():
                bits = f"{pu}{b}{w}{load}"
                base = (_never(_PC, "n"), _apart("n", "t")) if form else ()
                constant: tuple[Rule, ...] = (*target, _never(_PC, "n"), *base)
                if (name, form) in (("LDR", " post"), ("STR", " pre")):
                    constant += (_other_than(n=13, i=4, u=int(load)),)
                index = (*target, _never(_PC, "m"), *base)
                scaled = (*index, _other_than(z=0, y=0))
                yield f"{name} immediate{form}{pc}", f"cccc010{bits}nnnn{t}iiiiiiiiiiii", constant
                yield f"{name} register{form}{pc}", f"cccc011{bits}nnnn{t}00000000mmmm", index
                yield f"{name} scaled register{form}{pc}", f"cccc011{bits}nnnn{t}zzzzzyy0mmmm", scaled
                # An amount of zero means 32, or RRX: drawn as often as all the others together.
                unusual = (*index, _other_than(y=0))
                yield f"{name} scaled register{form}{pc}", f"cccc011{bits}nnnn{t}00000yy0mmmm", unusual
            whole = (*target, *((_whole_word,) if pc else ()))
            yield f"{name} literal{pc}", f"cccc0101u{b}0{load}1111{t}iiiiiiiiiiii", whole
            if pc and load == "1":
                continue
            bits = f"0u{b}1{load}"
            index = (*target, _never(_PC, "n", "m"), _apart("n", "t"))
            scaled = (*index, _other_than(z=0, y=0))
            yield f"{name}T immediate post{pc}", f"cccc010{bits}nnnn{t}iiiiiiiiiiii", index
            yield f"{name}T register post{pc}", f"cccc011{bits}nnnn{t}00000000mmmm", index
            yield f"{name}T scaled register post{pc}", f"cccc011{bits}nnnn{t}zzzzzyy0mmmm", scaled
    yield "POP single", "cccc010010011101tttt000000000100", (_never(_SP_PC, "t"),)
    yield "POP single PC", "cccc0100100111011111000000000100", ()
    yield "PUSH single", "cccc010100101101tttt000000000100", (_never(_SP_PC, "t"),)
    yield "PUSH single PC", "cccc0101001011011111000000000100", ()


def _a32_extra() -> Iterator[Class]:
    halves = (("STRH", "0", "01"), ("LDRH", "1", "01"), ("LDRSB", "1", "10"), ("LDRSH", "1", "11"))
    for name, load, op in halves:
        target = _never(_PC, "t", "m")
        for form, (pu, w) in _INDEXED.items():
            base = (_never(_PC, "n"), _apart("n", "t")) if form else ()
            constant, index = f"cccc000{pu}1{w}{load}nnnn", f"cccc000{pu}0{w}{load}nnnn"
            yield f"{name} immediate{form}", f"{constant}ttttiiii1{op}1iiii", (target, _never(_PC, "n"), *base)
            yield f"{name} register{form}", f"{index}tttt00001{op}1mmmm", (target, *base)
        yield f"{name} literal", f"cccc0001u10{load}1111ttttiiii1{op}1iiii", (target,)
        rules = (target, _never(_PC, "n"), _apart("n", "t"))
        yield f"{name}T immediate post", f"cccc0000u11{load}nnnnttttiiii1{op}1iiii", rules
        yield f"{name}T register post", f"cccc0000u01{load}nnnntttt00001{op}1mmmm", rules
    for name, op in (("LDRD", "10"), ("STRD", "11")):
        for form, (pu, w) in _INDEXED.items():
            base = (_never(_PC, "n"), _apart_from_pair("n")) if form else ()
            over = (_apart_from_pair("m"),) if name == "LDRD" else ()
            constant, index = f"cccc000{pu}1{w}0nnnn", f"cccc000{pu}0{w}0nnnn"
            rules = (_even_pair, _never(_PC, "n"), *base)
            yield f"{name} immediate{form}", f"{constant}ttttiiii1{op}1iiii", rules
            rules = (_even_pair, _never(_PC, "m"), *base, *over)
            yield f"{name} register{form}", f"{index}tttt00001{op}1mmmm", rules
        yield f"{name} literal", f"cccc0001u1001111ttttiiii1{op}1iiii", (_even_pair,)


def _a32_synchronization() -> Iterator[Class]:
    for name, b in (("SWP", "0"), ("SWPB", "1")):
        rules = (_never(_PC, "n", "t", "s"), _apart("n", "t", "s"))
        yield name, f"cccc00010{b}00nnnntttt00001001ssss", rules
    for suffix, op in (("", "00"), ("D", "01"), ("B", "10"), ("H", "11")):
        load = (_never(_PC, "n", "t"), *((_even_pair,) if suffix == "D" else ()))
        store = (*load, _never(_PC, "d"), _apart("d", "n", "t"))
        if suffix == "D":
            store += (_apart_from_pair("d"),)
        yield f"LDREX{suffix}", f"cccc00011{op}1nnnntttt111110011111", load
        yield f"STREX{suffix}", f"cccc00011{op}0nnnndddd11111001tttt", store


_A32_BLOCKS = {"DA": "00", "IA": "01", "DB": "10", "IB": "11"}
"""The bits P, U of each mode of LDM, STM, RFE and SRS."""


def _a32_multiple() -> Iterator[Class]:
    for mode, pu in _A32_BLOCKS.items():
        for w, wb in (("0", ""), ("1", " writeback")):
            for name, load, alias in (("LDM", "1", "POP"), ("STM", "0", "PUSH")):
                base: tuple[Rule, ...] = (_never(_PC, "n"),)
                if wb:
                    base += (_base_unlisted if name == "LDM" else _base_unlisted_or_lowest,)
                for pc, pc_form in (("0", ""), ("1", " PC")):
                    rules = (*base, _listed(1 - int(pc)))
                    pattern = f"cccc100{pu}0{w}{load}%s{pc}lllllllllllllll"
                    if wb and (name, mode) in (("LDM", "IA"), ("STM", "DB")):
                        two = _listed(2 - int(pc))
                        yield f"{alias}{pc_form}", pattern % "1101", (two, _sp_unlisted_or_lowest[name])
                        rules += (_not_stack(2 - int(pc)),)
                    yield f"{name}{mode}{wb}{pc_form}", pattern % "nnnn", rules
            returning: tuple[Rule, ...] = (_never(_PC, "n"), *((_base_unlisted,) if wb else ()))
            yield f"LDM{mode}{wb} exception return", f"cccc100{pu}1{w}1nnnn1lllllllllllllll", returning
        rules = (_never(_PC, "n"), _listed(1))
        yield f"LDM{mode} user bank", f"cccc100{pu}101nnnn0lllllllllllllll", rules
        yield f"STM{mode} user bank", f"cccc100{pu}100nnnnllllllllllllllll", rules


def _not_stack(least: int) -> Rule:
    """Not what is called PUSH or POP: SP as the base, and at least so many registers."""
    return lambda f: f["n"] != 13 or f["l"].bit_count() < least


_sp_unlisted_or_lowest: dict[str, Rule] = {
    "LDM": lambda f: not f["l"] >> 13 & 1,
    "STM": lambda f: not f["l"] >> 13 & 1 or not f["l"] & 0x1FFF,
}


def _exception_state(prefix: str) -> Iterator[Class]:
    for mode, pu in {"DB": "00", "IA": "11"}.items() if prefix == "T32" else _A32_BLOCKS.items():
        for w, wb in (("0", ""), ("1", " writeback")):
            if prefix == "T32":
                rfe, srs = f"1110100{pu}0{w}1nnnn1100000000000000", f"1110100{pu}0{w}0110111000000000ggggg"
            else:
                rfe, srs = f"1111100{pu}0{w}1nnnn0000101000000000", f"1111100{pu}1{w}0110100000101000ggggg"
            yield f"RFE{mode}{wb}", rfe, (_never(_PC, "n"),)
            yield f"SRS{mode}{wb}", srs, (lambda f: f["g"] in GUEST_MODES,)


def _t32_single() -> Iterator[Class]:
    kinds = (
        ("STR", "0", "10", "0"),
        ("STRB", "0", "00", "0"),
        ("STRH", "0", "01", "0"),
        ("LDR", "0", "10", "1"),
        ("LDRB", "0", "00", "1"),
        ("LDRH", "0", "01", "1"),
        ("LDRSB", "1", "00", "1"),
        ("LDRSH", "1", "01", "1"),
    )
    for name, sign, size, load in kinds:
        for t, pc in (("tttt", ""), ("1111", " PC")) if name == "LDR" else (("tttt", ""),):
            unsigned, signed = f"1111100{sign}1{size}{load}nnnn{t}", f"1111100{sign}0{size}{load}nnnn{t}"
            target = () if pc else (_never(_PC if size == "10" else _SP_PC, "t"),)
            rules: tuple[Rule, ...] = (*target, _never(_PC, "n"), _never(_SP_PC, "m"))
            base = (*rules, _apart("n", "t"))
            pre = (*base, _other_than(n=13, i=4, u=0)) if name == "STR" else base
            post = (*base, _other_than(n=13, i=4, u=1)) if name == "LDR" else base
            yield f"{name} immediate{pc}", f"{unsigned}iiiiiiiiiiii", rules
            yield f"{name} immediate{pc}", f"{signed}1100iiiiiiii", rules
            yield f"{name} immediate pre{pc}", f"{signed}11u1iiiiiiii", pre
            yield f"{name} immediate post{pc}", f"{signed}10u1iiiiiiii", post
            yield f"{name} register{pc}", f"{signed}00000000mmmm", rules
            yield f"{name} scaled register{pc}", f"{signed}000000zzmmmm", (*rules, _other_than(z=0))
            if load == "1":
                whole = (*target, *((_whole_word,) if pc else ()))
                yield f"{name} literal{pc}", f"1111100{sign}u{size}11111{t}iiiiiiiiiiii", whole
            if not pc:
                yield f"{name}T immediate", f"{signed}1110iiiiiiii", (_never(_SP_PC, "t"), _never(_PC, "n"))
    yield "POP single", "1111100001011101tttt101100000100", (_never(_SP_PC, "t"),)
    yield "POP single PC", "11111000010111011111101100000100", ()
    yield "PUSH single", "1111100001001101tttt110100000100", (_never(_SP_PC, "t"),)


def _t32_dual_exclusive_table() -> Iterator[Class]:
    for name, load in (("LDRD", "1"), ("STRD", "0")):
        pair: tuple[Rule, ...] = (_never(_SP_PC, "t", "s"), *((_apart("t", "s"),) if load == "1" else ()))
        for form, pu_w in {"": "1u10", " pre": "1u11", " post": "0u11"}.items():
            base = (_never(_PC, "n"), *((_apart("n", "t", "s"),) if form else ()))
            yield f"{name} immediate{form}", f"1110100{pu_w}{load}nnnnttttssssiiiiiiii", (*pair, *base)
        if load == "1":
            yield f"{name} literal", "11101001u1011111ttttssssiiiiiiii", pair
    rules: tuple[Rule, ...] = (_never(_PC, "n"), _never(_SP_PC, "t", "s", "d"))
    store = (*rules, _apart("d", "n", "t", "s"))
    yield "LDREX", "111010000101nnnntttt1111iiiiiiii", rules
    yield "STREX", "111010000100nnnnttttddddiiiiiiii", store
    for suffix, op, second in (("B", "0100", "1111"), ("H", "0101", "1111"), ("D", "0111", "ssss")):
        yield f"LDREX{suffix}", f"111010001101nnnntttt{second}{op}1111", (*rules, _apart("t", "s"))
        yield f"STREX{suffix}", f"111010001100nnnntttt{second}{op}dddd", store
    table = (_never(frozenset({13}), "n"), _never(_SP_PC, "m"))
    yield "TBB", "111010001101nnnn111100000000mmmm", table
    yield "TBH", "111010001101nnnn111100000001mmmm", table


def _t32_base_unlisted(f: Fields) -> bool:
    """As `_base_unlisted`, for a list whose field leaves out the bit of SP, so that its top bit is LR."""
    return not (f["l"] & 0x1FFF | (f["l"] & 0x2000) << 1) >> f["n"] & 1


def _t32_multiple() -> Iterator[Class]:
    lists = (
        ("LDM", "1", "POP", "", "0l0lllllllllllll", 2),
        ("LDM", "1", "POP", " PC", "100lllllllllllll", 1),
        ("STM", "0", "PUSH", "", "0l0lllllllllllll", 2),
    )
    for mode, pu in (("IA", "01"), ("DB", "10")):
        for w, wb in (("0", ""), ("1", " writeback")):
            for name, load, alias, pc, bits, least in lists:
                rules: tuple[Rule, ...] = (_never(_PC, "n"), _listed(least))
                if wb:
                    rules += (_t32_base_unlisted,)
                if wb and (name, mode) in (("LDM", "IA"), ("STM", "DB")):
                    yield f"{alias}{pc}", f"1110100{pu}0{w}{load}1101{bits}", (_listed(least),)
                    rules += (_never(_SP_PC, "n"),)
                yield f"{name}{mode}{wb}{pc}", f"1110100{pu}0{w}{load}nnnn{bits}", rules


def _t16() -> Iterator[Class]:
    names = ("STR", "STRH", "STRB", "LDRSB", "LDR", "LDRH", "LDRB", "LDRSH")
    for op, name in enumerate(names):
        yield f"{name} register", f"0101{op:03b}mmmnnnttt", ()
    constants = (("STR", "01100"), ("LDR", "01101"), ("STRB", "01110"), ("LDRB", "01111"), ("STRH", "10000"))
    for name, bits in (*constants, ("LDRH", "10001")):
        yield f"{name} immediate", f"{bits}iiiiinnnttt", ()
    yield "STR immediate", "10010tttiiiiiiii", ()
    yield "LDR immediate", "10011tttiiiiiiii", ()
    yield "LDR literal", "01001tttiiiiiiii", ()
    yield "PUSH", "1011010lllllllll", (_listed(1),)
    yield "POP", "10111100llllllll", (_listed(1),)
    yield "POP PC", "10111101llllllll", ()
    yield "STMIA writeback", "11000nnnllllllll", (_listed(1), _base_unlisted_or_lowest)
    yield "LDMIA writeback", "11001nnnllllllll", (_listed(1), _base_unlisted)
    yield "LDMIA", "11001nnnllllllll", (lambda f: not _base_unlisted(f),)


_VFP_BLOCKS = (("IA", "01", "0", ""), ("IA", "01", "1", " writeback"), ("DB", "10", "1", " writeback"))
"""Mode, the bits P and U, W, and the name of the form."""


def _vfp(prefix: str) -> Iterator[Class]:
    thumb = prefix == "T32"
    c = "1110" if thumb else "cccc"
    for name, load in (("VLDR", "1"), ("VSTR", "0")):
        for width, z in (("single", "0"), ("double", "1")):
            yield f"{name} {width} immediate", f"{c}1101uv0{load}nnnnvvvv101{z}iiiiiiii", (_never(_PC, "n"),)
            if load == "1" or not thumb:
                yield f"{name} {width} literal", f"{c}1101uv0{load}1111vvvv101{z}iiiiiiii", ()
    for name, load, alias in (("LDM", "1", "VPOP"), ("STM", "0", "VPUSH")):
        for mode, pu, w, wb in _VFP_BLOCKS:
            base = (_never(_PC, "n"),) if thumb or wb else ()
            pattern = f"{c}110{pu}v{w}{load}%svvvv101%s"
            x = pattern % ("nnnn", "1iiiiiii1")
            yield f"F{name}{mode}X double{wb}", x, (*base, _doubles_below(16))
            for width, tail, fits in (("single", "0iiiiiiii", _singles), ("double", "1iiiiiii0", _doubles_below(32))):
                rules: tuple[Rule, ...] = (*base, fits)
                if wb and (load == "1") == (mode == "IA"):
                    yield f"{alias} {width}", pattern % ("1101", tail), (fits,)
                    rules += (_never(_SP_PC, "n"),)
                yield f"V{name}{mode} {width}{wb}", pattern % ("nnnn", tail), rules


def _doubles_below(limit: int) -> Rule:
    """One to sixteen D registers, the last one below `limit`; D registers are numbered D:Vd, as v joins them."""
    return lambda f: 0 < f["i"] <= 16 and f["v"] + f["i"] <= limit


def _singles(f: Fields) -> bool:
    """One to 32 S registers; they are numbered Vd:D, while v joins D:Vd."""
    return f["i"] > 0 and (f["v"] << 1 & 31 | f["v"] >> 4) + f["i"] <= 32


_NEON_MULTIPLE = (
    # elements, bits [11:4] (type, size, alignment), registers beyond the first
    (1, "0111ss0a", 0),
    (1, "1010ssaa", 1),
    (1, "0110ss0a", 2),
    (1, "0010ssaa", 3),
    (2, "1000ssaa", 1),
    (2, "1001ssaa", 2),
    (2, "0011ssaa", 3),
    (3, "0100ss0a", 2),
    (3, "0101ss0a", 4),
    (4, "0000ssaa", 3),
    (4, "0001ssaa", 6),
)
_NEON_LANE = (
    # elements, bits [11:4] (size, elements, lane, spacing and alignment), registers beyond the first
    (1, "0000xxx0", 0),
    (1, "0100xx0a", 0),
    (1, "1000x000", 0),
    (1, "1000x011", 0),
    (2, "0001xxxa", 1),
    (2, "0101xx0a", 1),
    (2, "0101xx1a", 2),
    (2, "1001x00a", 1),
    (2, "1001x10a", 2),
    (3, "0010xxx0", 2),
    (3, "0110xx00", 2),
    (3, "0110xx10", 4),
    (3, "1010x000", 2),
    (3, "1010x100", 4),
    (4, "0011xxxa", 3),
    (4, "0111xx0a", 3),
    (4, "0111xx1a", 6),
    (4, "1011x00a", 3),
    (4, "1011x010", 3),
    (4, "1011x10a", 6),
    (4, "1011x110", 6),
)
_NEON_ALL_LANES = (
    # elements, bits [11:4] (11, elements, size, spacing, alignment), registers beyond the first
    (1, "11000000", 0),
    (1, "11000010", 1),
    (1, "1100010a", 0),
    (1, "1100011a", 1),
    (1, "1100100a", 0),
    (1, "1100101a", 1),
    *((2, f"1101{size}0a", 1) for size in ("00", "01", "10")),
    *((2, f"1101{size}1a", 2) for size in ("00", "01", "10")),
    *((3, f"1110{size}00", 2) for size in ("00", "01", "10")),
    *((3, f"1110{size}10", 4) for size in ("00", "01", "10")),
    *((4, f"1111{size}0a", 3) for size in ("00", "01", "10")),
    *((4, f"1111{size}1a", 6) for size in ("00", "01", "10")),
    (4, "11111101", 3),
    (4, "11111111", 6),
)


def _neon(prefix: str) -> Iterator[Class]:
    head = "11111001" if prefix == "T32" else "11110100"
    for form, rm in (("", "1111"), (" writeback", "1101"), (" register writeback", "mmmm")):
        registers = (_never(_PC, "n"), _never(_SP_PC, "m"))
        for name, load in (("VLD", "1"), ("VST", "0")):
            for elements, bits, beyond in _NEON_MULTIPLE:
                rules: tuple[Rule, ...] = (*registers, _below_32(beyond))
                if elements > 1:
                    rules += (_other_than(s=3),)
                if bits.startswith("10"):
                    rules += (_other_than(a=3),)
                yield f"{name}{elements} multiple{form}", f"{head}0v{load}0nnnnvvvv{bits}{rm}", rules
            for elements, bits, beyond in _NEON_LANE:
                rules = (*registers, _below_32(beyond))
                yield f"{name}{elements} lane{form}", f"{head}1v{load}0nnnnvvvv{bits}{rm}", rules
        for elements, bits, beyond in _NEON_ALL_LANES:
            rules = (*registers, _below_32(beyond))
            yield f"VLD{elements} all lanes{form}", f"{head}1v10nnnnvvvv{bits}{rm}", rules


def _below_32(beyond: int) -> Rule:
    """The registers, so many beyond the first, exist."""
    return lambda f: f["v"] + beyond < 32


def _all() -> Iterator[Encoding]:
    groups = (
        ("A32", (_a32_single, _a32_extra, _a32_synchronization, _a32_multiple)),
        ("T32", (_t32_single, _t32_dual_exclusive_table, _t32_multiple)),
        ("T16", (_t16,)),
    )
    for prefix, makers in groups:
        for maker in makers:
            yield from (Encoding(f"{prefix} {name}", pattern, rules) for name, pattern, rules in maker())
    for prefix in ("A32", "T32"):
        for shared in (_exception_state, _vfp, _neon):
            yield from (Encoding(f"{prefix} {name}", pattern, rules) for name, pattern, rules in shared(prefix))


def _by_class() -> dict[str, tuple[Encoding, ...]]:
    table: dict[str, list[Encoding]] = {}
    for encoding in _all():
        table.setdefault(encoding.class_name, []).append(encoding)
    return {name: tuple(encodings) for name, encodings in table.items()}


ENCODINGS = _by_class()
"""Every class of memory access, with its encodings."""
