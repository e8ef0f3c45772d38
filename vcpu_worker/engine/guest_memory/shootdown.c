/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/guest_memory/shootdown.h"

#include "vcpu_worker/engine/cpu/requests.h"
#include "vcpu_worker/engine/step.h"

#define SERVED_SLICE_NS 1000000ull /* how long a wait for an exit to serve a flush goes on without a look */

bool is_surely_off(const struct cp_host *host, struct cp_vcpu *other)
{
    return host->has_coordinator && atomic_load(&other->power) == CP_POWER_OFF;
}

/* Wait until `other` has left the guest entry that `exiting` names. */
static void wait_exited(struct vcpu *v, uint32_t number, uint32_t exiting)
{
    struct cp_vcpu *other = cp_vcpu(v->host, number);
    if (atomic_load(&other->mode) == exiting)
        cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, number);
    while (!cp_wait_exited(other, exiting, cp_now_ns() + SLICE_NS)) {
        cp_beat(&v->slot->process);
        if (run_is_over(v))
            break;
    }
}

/* Wait until `other` has served the flush `ticket`, or will before it uses a translation again. */
static void wait_served(struct vcpu *v, uint32_t number, uint32_t ticket)
{
    struct cp_vcpu *other = cp_vcpu(v->host, number);
    while (!cp_is_remote(other) && !run_is_over(v)) {
        uint32_t served = atomic_load(&other->flush_served);
        if ((int32_t)(served - ticket) >= 0 || (atomic_load(&other->mode) & CP_MODE_MASK) == CP_SLEEPING
            || atomic_load(&other->power) != CP_POWER_ON)
            break;
        cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, number);
        cp_futex_wait(&other->flush_served, served, SERVED_SLICE_NS);
        cp_beat(&v->slot->process);
    }
}

/* A vCPU that itself waits here, sleeps or is off will flush before it uses a translation again. On other hosts their
 * nodes wait, for both disciplines, before they report that a vCPU has left. */
static void shoot(struct vcpu *v, uint32_t bits, bool ipi, bool wait, bool everywhere)
{
    uint32_t exiting[CP_MAX_VCPUS], ticket[CP_MAX_VCPUS];
    uint32_t n = v->host->vcpus;
    struct step step = step_begin(v, STEP_NO_COUNT, CP_HIST_SHOOTDOWN, STEP_NO_ACTIVITY, 0);
    uint64_t invalidation = atomic_fetch_add(&v->host->invalidations_begun, 1) + 1;
    if (wait)
        cp_shootdown_begin(v->host);
    for (uint32_t i = 0; i < n; i++) {
        if (i == v->number)
            continue;
        struct cp_vcpu *other = cp_vcpu(v->host, i);
        bool remote = cp_is_remote(other);
        exiting[i] = ticket[i] = 0;
        if (remote && (!everywhere || is_surely_off(v->host, other)))
            continue;
        ticket[i] = atomic_fetch_add(&other->flush_posted, 1) + 1;
        exiting[i] = cp_post(other, remote && bits & CP_TLB_PAGES ? CP_TLB_FLUSH : bits); /* the log is this host's */
    }
    if (wait) {
        uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
        if (ipi) { /* others may wait for us: we flush before we enter */
            atomic_store(&v->slot->mode, mode | CP_SLEEPING);
            cp_futex_wake(&v->slot->flush_served);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (i == v->number)
                continue;
            if (exiting[i])
                wait_exited(v, i, exiting[i]);
            if (ipi)
                wait_served(v, i, ticket[i]);
        }
        if (ipi)
            atomic_store(&v->slot->mode, mode);
        cp_shootdown_end(v->host);
    }
    atomic_fetch_add(&v->host->invalidations_done, 1);
    step_end(&step, JOURNAL_SHOOTDOWN, bits, ipi, invalidation);
    /* Our own, now. */
    atomic_fetch_or(&v->slot->requests, bits);
    vcpu_serve(v);
}

void vcpu_shootdown(struct vcpu *v, uint32_t bits, bool ipi, bool wait)
{
    shoot(v, bits, ipi, wait, false);
}

void vcpu_shootdown_everywhere(struct vcpu *v, uint32_t bits, bool ipi, bool wait)
{
    shoot(v, bits, ipi, wait, true);
}

/* As a sleeper is: what is posted meanwhile is served before the vCPU enters. */
void vcpu_rest(struct vcpu *v, bool yes)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    atomic_store(&v->slot->mode, mode | (yes ? CP_SLEEPING : CP_OUTSIDE));
    if (yes)
        cp_futex_wake(&v->slot->flush_served);
}
