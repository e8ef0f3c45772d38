/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two vCPUs that run a few instructions at the same moment, again and again. vCPUs 2k and 2k+1 are a pair.
 *
 * Runs come in batches of CELLS, each run on a cell of its own. Before each run the two wait for each other, but
 * not for long: on a host with too few cores the partner may not be running, and then the next runs go on without
 * waiting. Only between batches do they wait as long as it takes. Shared words hold the number of the batch that
 * wrote them: nothing needs resetting.
 */
#ifndef LITMUS_H
#define LITMUS_H

#include "guest.h"

/* A word that shares its cache line, and its neighbour's, with nothing. */
struct lone_word {
    volatile uint32_t value;
} ALIGNED(128);

#define MAX_PAIRS (MAX_VCPUS / 2)
#define CELLS 128u
#define CELLS_APART 64u /* after so many runs without the partner, wait for it again */

static inline unsigned pair_count(void) { return vcpu_count() / 2; }

/* Waiting spins for speed and, when it takes long, gives the core away: the partner may have none. */
static inline void wait_for_run(const volatile uint32_t *word, uint32_t run)
{
    for (unsigned spins = 0; (int32_t)(*word - run) < 0; spins++)
        if (spins > 500)
            yield();
}

/* Announce to have reached `run`; return when the partner has, too. */
static inline void meet(volatile uint32_t *mine, const volatile uint32_t *partners, uint32_t run)
{
    dmb();
    *mine = run;
    wait_for_run(partners, run);
    dmb();
}

/* The same without order, and without patience: false if the partner does not come, or was here long ago. */
static inline bool meet_briefly(volatile uint32_t *mine, const volatile uint32_t *partners, uint32_t run)
{
    *mine = run;
    for (unsigned spins = 0; spins < 2000; spins++) {
        int32_t ahead = (int32_t)(*partners - run);
        if (ahead >= 0)
            return ahead <= 1;
    }
    return false;
}

/*
 * The vCPU that meets last goes on at once, the other when it has noticed, and hosts differ in how long that takes:
 * let one of the two, in turn, lose a few nanoseconds, differently each time, so that they overlap in every way.
 */
static inline void stagger(unsigned side, unsigned cell)
{
    if ((cell / 32 & 1) != side)
        return;
    for (unsigned delay = cell % 32; delay; delay--)
        asm volatile("");
}

#endif
