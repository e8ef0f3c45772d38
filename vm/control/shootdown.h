/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a process waits while others' shootdowns are under way, without polling. */
#ifndef ALLSTOP_SHOOTDOWN_H
#define ALLSTOP_SHOOTDOWN_H

#include "futex.h"
#include "layout.h"

#define CP_SHOOTDOWN_PARKED (1u << 31) /* in `shootdowns`: a process sleeps until they are over */

/* A vCPU is going to wait for others to flush. Called before it posts: vCPUs that serve its post have to see it. */
static inline void cp_shootdown_begin(struct cp_host *host)
{
    atomic_fetch_add(&host->shootdowns, 1);
}

static inline void cp_shootdown_end(struct cp_host *host)
{
    if (atomic_fetch_sub(&host->shootdowns, 1) == (CP_SHOOTDOWN_PARKED | 1)) {
        atomic_fetch_and(&host->shootdowns, ~CP_SHOOTDOWN_PARKED);
        cp_futex_wake(&host->shootdowns);
    }
}

/* Sleep until no vCPU waits for others to flush, at most timeout_ns. */
static inline void cp_shootdown_park(struct cp_host *host, uint64_t timeout_ns)
{
    uint64_t deadline = cp_now_ns() + timeout_ns;
    for (;;) {
        uint32_t seen = atomic_load(&host->shootdowns);
        uint64_t now = cp_now_ns();
        if ((seen & ~CP_SHOOTDOWN_PARKED) == 0 || now >= deadline)
            return;
        if (!(seen & CP_SHOOTDOWN_PARKED)
            && !atomic_compare_exchange_strong(&host->shootdowns, &seen, seen | CP_SHOOTDOWN_PARKED))
            continue;
        cp_futex_wait(&host->shootdowns, seen | CP_SHOOTDOWN_PARKED, deadline - now);
    }
}

#endif
