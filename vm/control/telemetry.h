/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process tells of its work: counters, histograms, its activity, its heartbeat. Nothing here decides anything.
 *
 * A vCPU's counters and histograms have one writer at a time, and readers may see them a moment late.
 */
#ifndef ALLSTOP_TELEMETRY_H
#define ALLSTOP_TELEMETRY_H

#include "layout.h"

static inline void cp_count(struct cp_vcpu *v, unsigned counter)
{
    /* One writer: a plain increment that readers see whole. */
    atomic_store_explicit(&v->counters[counter], atomic_load_explicit(&v->counters[counter], memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* One writer. When the table is full, further kinds of access are counted but not named. */
static inline void cp_note_undefined(struct cp_vcpu *v, uint32_t access)
{
    for (struct cp_undefined *u = v->undefined; u < v->undefined + CP_UNDEFINED; u++) {
        uint32_t known = atomic_load_explicit(&u->access, memory_order_relaxed);
        if (known != 0 && known != access)
            continue;
        atomic_fetch_add_explicit(&u->times, 1, memory_order_relaxed);
        atomic_store_explicit(&u->access, access, memory_order_release);
        return;
    }
}

static inline unsigned cp_bucket(uint64_t ns)
{
    if (ns < 16)
        return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns);
    return (top - 3) * 16 + (unsigned)(ns >> (top - 4) & 15);
}

/* The middle of a bucket, in nanoseconds. */
static inline double cp_bucket_ns(unsigned bucket)
{
    if (bucket < 16)
        return (double)bucket;
    unsigned power = bucket / 16 + 3;
    double low = (double)(16 + bucket % 16) * (double)(1ull << (power - 4));
    return low + 0.5 * (double)((1ull << (power - 4)) - 1);
}

static inline void cp_record(struct cp_vcpu *v, unsigned histogram, uint64_t ns)
{
    atomic_fetch_add_explicit(&v->histogram[histogram][cp_bucket(ns)], 1, memory_order_relaxed);
}

static inline void cp_activity(struct cp_process *p, uint32_t activity, uint64_t detail)
{
    atomic_store_explicit(&p->detail, detail, memory_order_relaxed);
    atomic_store_explicit(&p->activity, activity, memory_order_release);
}

static inline void cp_beat(struct cp_process *p)
{
    atomic_fetch_add_explicit(&p->heartbeat, 1, memory_order_relaxed);
}

#endif
