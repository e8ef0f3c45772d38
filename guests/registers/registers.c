/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every CP14 and CP15 register, by its coordinates: which can be read, what it reads as, which can be written. One line
 * for each access that is not UNDEFINED, so that two machines can be compared:
 *
 *   read p15 0 c0 c0 0 412fc0f1     MRC: opc1, CRn, CRm, opc2, value; a star stands for all of them, which read as 0
 *   read2 p15 0 c2 00000000 00000000  MRRC: opc1, CRm, value
 *   write p15 0 c7 c5 0             MCR
 *   cache 0 701fe00a                CCSIDR, as CSSELR selects it
 *   vfp 7 10110222                  VMRS
 *
 * Of CP14 a value of 5a5a5a5a is none: the register can be read, and the read leaves the general register as it was. (Of CP15
 * QEMU has whole rows of those, which would make a long list of a short one.)
 *
 * What is written: to what can be read, the value that it reads as; to cache, TLB and translation operations, an address.
 */
#include "guest.h"

#define OPCODES 8u
#define FIELDS 16u

#define CODE_WORDS (2u * OPCODES * FIELDS * FIELDS * OPCODES) /* of each function an instruction and its return */
static uint32_t code[CODE_WORDS] NOINIT ALIGNED(4096);
#define REGISTERS (OPCODES * FIELDS * FIELDS * OPCODES)
static bool is_readable[REGISTERS], is_writable[REGISTERS];
static uint32_t values[REGISTERS] NOINIT;
static uint32_t scratch[64] ALIGNED(64);
static volatile bool is_undefined;
static unsigned found;

#define BX_LR 0xe12fff1eu
#define UNTOUCHED 0x5a5a5a5au /* what a read leaves behind that gives nothing */

static bool skip(struct frame *frame)
{
    is_undefined = true;
    frame->pc += 4;
    return true;
}

/* MCR or MRC of r0. */
static uint32_t single(unsigned cp, bool is_read, unsigned opc1, unsigned crn, unsigned crm, unsigned opc2)
{
    return 0xee000010u | (is_read ? 1u << 20 : 0) | opc1 << 21 | crn << 16 | cp << 8 | opc2 << 5 | crm;
}

/* MRRC of r0 and r1. */
static uint32_t pair(unsigned cp, unsigned opc1, unsigned crm)
{
    return 0xec510000u | cp << 8 | opc1 << 4 | crm;
}

static void sync_code(void)
{
    for (uintptr_t line = (uintptr_t)code; line < (uintptr_t)(code + CODE_WORDS); line += 64)
        CP15_WRITE(0, c7, c11, 1, line); /* DCCMVAU */
    dsb();
    CP15_WRITE(0, c7, c5, 0, 0); /* ICIALLU */
    dsb();
    isb();
}

static uint64_t call(const uint32_t *function, uint32_t argument)
{
    is_undefined = false;
    return ((uint64_t (*)(uint32_t))function)(argument);
}

/* Print the registers that are there, from `first` on `count` of them: as one line where all are there and read as 0. */
static bool print_all(const char *verb, unsigned cp, unsigned first, unsigned count, const bool *there)
{
    for (unsigned i = first; i < first + count; i++)
        if (!there[i] || values[i] != 0)
            return false;
    print("%s p%u %u c%u ", verb, cp, first >> 11, first >> 7 & 15);
    if (count == OPCODES)
        print("c%u *\n", first >> 3 & 15);
    else
        print("* *\n");
    return true;
}

static void print_list(unsigned cp, const bool *there, bool is_read)
{
    const char *verb = is_read ? "read" : "write";
    for (unsigned i = 0; i < REGISTERS; i++) {
        if (i % (FIELDS * OPCODES) == 0 && print_all(verb, cp, i, FIELDS * OPCODES, there)) {
            i += FIELDS * OPCODES - 1;
            found++;
            continue;
        }
        if (i % OPCODES == 0 && print_all(verb, cp, i, OPCODES, there)) {
            i += OPCODES - 1;
            found++;
            continue;
        }
        if (!there[i])
            continue;
        print("%s p%u %u c%u c%u %u", verb, cp, i >> 11, i >> 7 & 15, i >> 3 & 15, i & 7);
        if (is_read)
            print(" %x", values[i]);
        print("\n");
        found++;
    }
}

static void read_all(unsigned cp)
{
    uint32_t *next = code;
    for (unsigned i = 0; i < REGISTERS; i++) {
        *next++ = single(cp, true, i >> 11, i >> 7 & 15, i >> 3 & 15, i & 7);
        *next++ = BX_LR;
    }
    sync_code();
    for (unsigned i = 0; i < REGISTERS; i++) {
        values[i] = (uint32_t)call(code + 2 * i, cp == 14 ? UNTOUCHED : 0);
        is_readable[i] = !is_undefined;
    }
    print_list(cp, is_readable, true);
}

/* Cache, branch predictor and TLB maintenance, translation, barriers. */
static bool is_operation(unsigned cp, unsigned opc1, unsigned crn)
{
    return cp == 15 && opc1 == 0 && (crn == 7 || crn == 8);
}

/* Write-only registers elsewhere. */
static bool is_write_only(unsigned cp, unsigned opc1, unsigned crn, unsigned crm, unsigned opc2)
{
    return (cp == 14 && opc1 == 0 && crn == 1 && crm == 0 && opc2 == 4)     /* DBGOSLAR */
        || (cp == 15 && opc1 == 0 && crn == 9 && crm == 12 && opc2 == 4);   /* PMSWINC */
}

/* What is written to: the rest may do anything. */
static bool is_operation_or_known(unsigned cp, unsigned i)
{
    unsigned opc1 = i >> 11, crn = i >> 7 & 15, crm = i >> 3 & 15, opc2 = i & 7;
    return is_readable[i] || is_operation(cp, opc1, crn) || is_write_only(cp, opc1, crn, crm, opc2);
}

static void write_all(unsigned cp)
{
    uint32_t *next = code;
    for (unsigned i = 0; i < REGISTERS; i++) {
        *next++ = single(cp, false, i >> 11, i >> 7 & 15, i >> 3 & 15, i & 7);
        *next++ = BX_LR;
    }
    sync_code();
    for (unsigned i = 0; i < REGISTERS; i++) {
        is_writable[i] = false;
        if (!is_operation_or_known(cp, i))
            continue;
        bool operation = is_operation(cp, i >> 11, i >> 7 & 15);
        call(code + 2 * i, operation ? (uint32_t)scratch : is_readable[i] ? values[i] : 0);
        is_writable[i] = !is_undefined;
    }
    print_list(cp, is_writable, false);
}

static void read_pairs(unsigned cp)
{
    uint32_t *next = code;
    for (unsigned i = 0; i < FIELDS * FIELDS; i++) {
        *next++ = pair(cp, i >> 4, i & 15);
        *next++ = BX_LR;
    }
    sync_code();
    for (unsigned i = 0; i < FIELDS * FIELDS; i++) {
        uint64_t value = call(code + 2 * i, 0);
        if (is_undefined)
            continue;
        print("read2 p%u %u c%u %x %x\n", cp, i >> 4, i & 15, (uint32_t)(value >> 32), (uint32_t)value);
        found++;
    }
}

static void read_caches(void)
{
    for (uint32_t level = 0; level < 8; level++) {
        CP15_WRITE(2, c0, c0, 0, level); /* CSSELR */
        isb();
        print("cache %u %x\n", level, CP15_READ(1, c0, c0, 0));
        found++;
    }
}

static void read_vfp(void)
{
    for (unsigned i = 0; i < FIELDS; i++) {
        code[2 * i] = 0xeef00a10u | i << 16; /* VMRS r0 */
        code[2 * i + 1] = BX_LR;
    }
    sync_code();
    for (unsigned i = 0; i < FIELDS; i++) {
        uint32_t value = (uint32_t)call(code + 2 * i, 0);
        if (is_undefined)
            continue;
        print("vfp %u %x\n", i, value);
        found++;
    }
}

int main(void)
{
    exception_handlers[UNDEFINED] = skip;
    read_caches();
    read_vfp();
    for (unsigned cp = 14; cp < 16; cp++) {
        read_all(cp);
        read_pairs(cp);
        write_all(cp);
    }
    print("result: guest=registers found=%u\n", found);
    return found == 0;
}
