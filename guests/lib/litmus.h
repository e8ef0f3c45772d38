/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two vCPUs that run a few instructions at the same moment, again and again. vCPUs 2k and 2k+1 are a pair.
 * Shared words hold the number of the run that wrote them last: nothing needs resetting between runs.
 */
#ifndef LITMUS_H
#define LITMUS_H

#include "guest.h"

/* A word that shares its cache line, and its neighbour's, with nothing. */
struct lone_word {
    volatile uint32_t value;
} ALIGNED(128);

#define MAX_PAIRS (MAX_VCPUS / 2)

static inline unsigned pair_count(void) { return vcpu_count() / 2; }

/* Waiting spins for speed and, when it takes long, gives the core away: the partner may have none. */
static inline void wait_for_run(const volatile uint32_t *word, uint32_t run)
{
    for (unsigned spins = 0; (int32_t)(*word - run) < 0; spins++)
        if (spins > 500)
            yield();
}

/* Announce to have finished run - 1 and to be ready for `run`; return when the partner is, too. */
static inline void meet(volatile uint32_t *mine, const volatile uint32_t *partners, uint32_t run)
{
    dmb();
    *mine = run;
    wait_for_run(partners, run);
}

/*
 * The vCPU that meets last goes on at once, the other when it has noticed: let the one that tends to be early
 * lose a few nanoseconds, differently each time, so that the two overlap in every way.
 */
static inline void stagger(uint32_t run)
{
    for (unsigned delay = run % 8; delay; delay--)
        asm volatile("");
}

#endif
