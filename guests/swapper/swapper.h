/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the instructions (swapper-code.S) and the players (swapper.c) agree on. */
#ifndef SWAPPER_H
#define SWAPPER_H

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
