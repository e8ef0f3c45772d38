/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A measured step of a vCPU: it is counted, shown as the process's activity, timed, and written to the journal.
 *
 *     struct step step = step_begin(v, CP_COUNT_WFI, STEP_NO_HISTOGRAM, CP_ACTIVITY_WFI, 0);
 *     ... what takes time ...
 *     step_end(&step, JOURNAL_SLEPT, v->pc);
 */
#ifndef ALLSTOP_ENGINE_STEP_H
#define ALLSTOP_ENGINE_STEP_H

#include "vcpu_worker/engine/vcpu.h"

#define STEP_NO_COUNT UINT32_MAX
#define STEP_NO_ACTIVITY UINT32_MAX
#define STEP_NO_HISTOGRAM UINT32_MAX

struct step {
    struct vcpu *v;
    uint32_t histogram;
    uint64_t began_ns; /* 0: neither a histogram nor a journal asks */
};

/* It is counted when it begins, so that others can see that a vCPU waits. */
static inline struct step step_begin(struct vcpu *v, uint32_t count, uint32_t histogram, uint32_t activity,
                                     uint64_t detail)
{
    if (count != STEP_NO_COUNT)
        cp_count(v->slot, count);
    if (activity != STEP_NO_ACTIVITY)
        cp_activity(&v->slot->process, activity, detail);
    return (struct step){ v, histogram, histogram != STEP_NO_HISTOGRAM || v->journal ? cp_now_ns() : 0 };
}

/* The last of `operands` is the duration's. */
static inline void step_end_(const struct step *s, enum journal_kind kind, uint64_t operands[6])
{
    if (s->began_ns == 0)
        return;
    uint64_t now_ns = cp_now_ns();
    operands[5] = now_ns - s->began_ns;
    if (s->histogram != STEP_NO_HISTOGRAM)
        cp_record(s->v->slot, s->histogram, operands[5]);
    if (s->v->journal)
        journal_put(s->v->journal, now_ns, kind, s->v->number, operands);
}
/* The step is over; at most five operands of the journal's record follow. */
#define step_end(step, kind, ...) step_end_(step, kind, (uint64_t[6]){ __VA_ARGS__ })

/* A step without a duration: at most six operands of the journal's record follow. */
#define step_now(v, kind, ...)                                                                                         \
    do {                                                                                                               \
        if ((v)->journal)                                                                                              \
            journal_event((v)->journal, kind, (v)->number, __VA_ARGS__);                                               \
    } while (0)

#endif
