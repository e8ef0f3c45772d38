/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the instructions (swapper-code.S), the swappers (paging.c) and the accessors (swapper.c) agree on. */
#ifndef ROUTINES_H
#define ROUTINES_H

#define VERSIONS 8 /* of the routine, in either instruction set */
#define SPOILS 16  /* words that a reused frame may hold in its place */

#define CONTEXT_SP 52
#define CONTEXT_PC 60

#ifndef __ASSEMBLER__
#include "guest.h"

/* The routine is an access and a return: two words of ARM; of Thumb, a wide instruction and two narrow ones. */
typedef uint32_t routine[2];

extern const routine arm_versions[VERSIONS], thumb_versions[VERSIONS];
extern const uint32_t arm_spoils[SPOILS], thumb_spoils[SPOILS];

static inline uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* The window has two pages of code for each swapper, then one of data for each vCPU. */
#define MAX_GROUPS (MAX_VCPUS / 2)
#define DATA_PAGE (2 * MAX_GROUPS)
typedef uint32_t page[1024];

/* Where in the pages of code a routine is. */
enum kind { ARM, THUMB, STRADDLING, KINDS };

/* paging.c, for the pages of swapper `number`. */
void paging_start(unsigned number, uint32_t seed);
/* Take both pages away, reuse their frames, and have another version ready, mapped or not. */
void swap(unsigned number);
/* The same for as long as accessors have calls to make. */
void swap_on(unsigned number);
/* Bring a page in, as a kernel would; false if it is not one of these. */
bool page_fault(uint32_t address);
uint32_t routine_address(unsigned number, enum kind kind);
uint32_t swap_count(unsigned number);
/* An accessor has calls to make; has made one; has made all. */
void accessor_joins(unsigned number);
void accessor_called(unsigned number);
void accessor_leaves(unsigned number);

/* All that a call can see and change. */
struct context {
    uint32_t r[13];
    uint32_t sp, lr, pc, cpsr;
    uint32_t ended; /* the exception that ended the call: SUPERVISOR_CALL when it returned */
};

/* Load `in`, run from its pc until an exception handler returns to call_returned. */
void call_routine(const struct context *in);
extern const char call_returned[];
/* Where a routine returns to: an SVC, in ARM state. */
extern const char call_landing[];
#endif

#endif
