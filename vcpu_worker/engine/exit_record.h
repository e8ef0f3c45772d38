/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why run() returned: one row for each kind of exit, and the record that Python gets. */
#ifndef ALLSTOP_ENGINE_EXIT_RECORD_H
#define ALLSTOP_ENGINE_EXIT_RECORD_H

#include <stdint.h>

#include "vcpu_worker/engine/arm/syndrome.h"

/* The enum, the EXIT_ constants and names of Exit's repr in Python come from these rows; _engine.pyi declares them. */
#define EXITS(X)                                                                                                       \
    X(MMIO) /* stage-2 data abort outside RAM with a valid syndrome: value or register latched */                      \
    X(NISV) /* the same without a syndrome, or across a page boundary: the instruction has to be fetched */            \
    X(HVC)                                                                                                             \
    X(SMC)                                                                                                             \
    X(FETCH)       /* stage-2 instruction abort outside RAM */                                                         \
    X(WALK)        /* a stage-1 walk left RAM */                                                                       \
    X(CP15)        /* a trapped register that is not served natively */                                                \
    X(REQUEST)     /* EVENT or QUIT is requested */                                                                    \
    X(BUDGET)      /* the instruction budget is used up */                                                             \
    X(BREAKPOINT)  /* the instruction at PC is about to be executed */                                                 \
    X(TIMER)       /* the timers' interrupt lines have changed */                                                      \
    X(LOST)        /* the guest takes an exception whose vector is not in memory */                                    \
    X(SEMIHOSTING) /* the guest calls the host; PC is after the call */                                                \
    X(OTHER)       /* an exception to EL2 of another class */                                                          \
    X(WATCHPOINT)  /* the instruction that was executed last has accessed a watched address: `hdfar` */

enum exit_kind {
#define X(name) EXIT_##name,
    EXITS(X)
#undef X
        EXIT_KINDS
};

struct exit_record {
    uint32_t kind, hsr, hdfar, hifar, hpfar, ipa, pc, cpsr;
    struct syndrome syndrome;     /* `hsr`, decoded */
    uint32_t instruction, length; /* as it was translated; length 0 when not known */
    uint32_t size, is_write;      /* MMIO */
    uint64_t executed;            /* under a budget: instructions of this run, without one that waits to be served */
    uint64_t value;               /* MMIO: what a store stores, as the device sees it */
    uint64_t epoch;               /* invalidations begun when the guest was left */
    uint32_t settled;             /* ... and all of them were done */
    uint32_t timers;              /* 1: the timers' levels are not those that Python was told */
};

#endif
