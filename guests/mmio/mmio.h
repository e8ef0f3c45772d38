/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the instruction list (mmio-cases.S), the way in and out (mmio-run.S) and the checker (mmio.c) agree on. */
#ifndef MMIO_H
#define MMIO_H

/* Properties of a case. */
#define CASE_WIDE 1     /* reaches up to 160 bytes to either side of the base instead of 32 */
#define CASE_BOTH 2     /* conditional: run with Z clear and with Z set */
#define CASE_BRANCH 4   /* each word of memory is the address where the case goes on */
#define CASE_RETURN 8   /* memory is pairs of such an address and a CPSR */
#define CASE_TABLE 16   /* memory is a table of branch offsets that skip two halfwords */
#define CASE_USER 32    /* run in User mode */
#define CASE_STRADDLE 64 /* copied so that its first wide instruction lies across two pages */
#define CASE_LITERAL 128 /* copied so that PC plus `reach` is the base */

#define CONTEXT_SP 52
#define CONTEXT_PC 60
#define CONTEXT_FPSCR 68
#define CONTEXT_D 72

#ifndef __ASSEMBLER__
#include "guest.h"

/* One case; a group's heading when `code` is 0. Bit 0 of `code` and `landing` is Thumb state. */
struct test_case {
    uint32_t code;
    const char *name;
    uint32_t landing;
    uint16_t bytes;
    uint16_t reach;
    uint8_t flags;
    uint8_t prelude; /* bytes before the instruction that straddles */
    uint16_t unused;
};

extern const struct test_case cases_start[], cases_end[];

/* All that a case can see and change. */
struct context {
    uint32_t r[13];
    uint32_t sp, lr, pc, cpsr, fpscr;
    uint64_t d[32];
    uint32_t ended; /* the exception that ended the case: SUPERVISOR_CALL when all is well */
    uint32_t unused;
};

/* Load `in`, run from its pc until an exception, store all but r0-r12, sp, lr, pc, cpsr to `out`. */
void run_context(const struct context *in, struct context *out);
extern const char run_returned[];
#endif

#endif
