/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/run/run.h"

#include <string.h>

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/cpu/requests.h"
#include "vcpu_worker/engine/cpu/timers.h"
#include "vcpu_worker/engine/interpose/stops.h"
#include "vcpu_worker/engine/interpose/watch.h"
#include "vcpu_worker/engine/run/arm/exits.h"
#include "vcpu_worker/engine/run/time_slice.h"
#include "vcpu_worker/engine/step.h"

static bool exit_to_python(struct vcpu *v, enum exit_kind kind)
{
    memset(&v->exit, 0, sizeof v->exit);
    v->exit.kind = kind;
    v->exit.pc = v->pc;
    v->exit.cpsr = v->cpsr;
    return true;
}

/* The world is stopped: stay here until it goes on, or a message waits; the run loop then comes back. */
static void park(struct vcpu *v)
{
    struct step step = step_begin(v, CP_COUNT_STOPPED, STEP_NO_HISTOGRAM, CP_ACTIVITY_PARKED, 0);
    while ((atomic_load(&v->slot->requests) & (CP_STOP | CP_QUIT | CP_EVENT)) == CP_STOP) {
        cp_park(v->slot, CP_STOP, CP_QUIT | CP_EVENT, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    step_end(&step, JOURNAL_PARKED, v->pc);
    cp_activity(&v->slot->process, CP_ACTIVITY_GUEST, 0);
}

/* We have flushed. The vCPU that waits for that waits for others too, and those may need this core: a yield would let
 * the scheduler choose between them and us. */
static void keep_out_of_the_way(struct vcpu *v)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    atomic_store(&v->slot->mode, mode | CP_SLEEPING); /* what is posted meanwhile is served before we enter */
    cp_shootdown_park(v->host, PARK_NS);
    atomic_store(&v->slot->mode, mode);
}

/* Do what was asked of this vCPU before it enters. True: Python is needed for it, as `exit`. */
static bool serve_requests(struct vcpu *v, uint32_t requests)
{
    if (requests & (CP_EVENT | CP_QUIT)) {
        atomic_fetch_and(&v->slot->requests, ~(uint32_t)CP_EVENT);
        return exit_to_python(v, EXIT_REQUEST);
    }
    if (requests & CP_TICK) {
        atomic_fetch_and(&v->slot->requests, ~(uint32_t)CP_TICK);
        timers_update(v);
    }
    if (requests & CP_STOP)
        park(v);
    vcpu_serve(v);
    if (timers_have_news(v) && requests & CP_TICK)
        return exit_to_python(v, EXIT_TIMER);
    if (v->oversubscribed && requests & (CP_TLB_FLUSH | CP_TLB_PAGES | CP_CODE_FLUSH))
        keep_out_of_the_way(v);
    return false;
}

/* Be in the guest once. False on an engine error. */
static bool enter_guest(struct vcpu *v)
{
    v->trapped = v->calls_host = false;
    time_slice_begin(v);
    uc_err error = uc.emu_start(v->uc, v->pc | (v->cpsr & PSR_T ? 1 : 0), 0, 0, 0);
    /* While still counted as in the guest: an invalidation that is done by now was served by us before the instruction
     * that trapped; one that is only begun may be done, and its page reused, as soon as we have left. */
    v->epoch = atomic_load(&v->host->invalidations_begun);
    v->settled = atomic_load(&v->host->invalidations_done) == v->epoch;
    cp_exit(v->slot);
    return !vcpu_failed(v, "go on", error);
}

/* The guest has trapped. True: Python is needed, as `exit`; or `swap_failed`. */
static bool handle_trap(struct vcpu *v)
{
    v->waited_for_page = false;
    bool exits = vcpu_handle(v);
    if (!v->waited_for_page)
        cp_got_on(v->host, v->slot);
    if (exits || v->swap_failed)
        return true;
    cp_activity(&v->slot->process, CP_ACTIVITY_GUEST, 0);
    atomic_store_explicit(&v->slot->process.pc, v->pc, memory_order_relaxed);
    return false;
}

/* The run was stopped from outside, or at a breakpoint, a watchpoint or the end of the budget. True: Python is
 * needed. */
static bool handle_stop(struct vcpu *v)
{
    v->pc = vcpu_register(v, UC_ARM_REG_R15);
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    atomic_store_explicit(&v->slot->process.pc, v->pc, memory_order_relaxed);
    cp_count(v->slot, CP_COUNT_KICK);
    if (interpose_is_at_breakpoint(v->interpose))
        return exit_to_python(v, EXIT_BREAKPOINT);
    uint32_t address;
    bool is_write;
    if (interpose_is_at_watchpoint(v->interpose, &address, &is_write)) {
        interpose_uncount(v->interpose);
        exit_to_python(v, EXIT_WATCHPOINT);
        v->exit.hdfar = address;
        v->exit.is_write = is_write;
        return true;
    }
    return interpose_budget_is_spent(v->interpose) && exit_to_python(v, EXIT_BUDGET);
}

/* False on an engine error, else `exit` is set. */
static bool run(struct vcpu *v)
{
    struct cp_vcpu *slot = v->slot;
    cp_activity(&slot->process, CP_ACTIVITY_GUEST, 0);
    for (;;) {
        uint32_t requests = atomic_load(&slot->requests) & ~v->ignored;
        if (requests) {
            if (serve_requests(v, requests))
                return true;
            if (atomic_load(&slot->requests) & ~v->ignored)
                continue;
        }
        if (!cp_enter(slot, v->ignored)) {
            cp_exit(slot);
            continue;
        }
        if (!enter_guest(v))
            return false;
        if (v->trapped) {
            if (handle_trap(v))
                return !v->swap_failed;
        } else if (v->calls_host) {
            cp_count(slot, CP_COUNT_SEMIHOSTING);
            return exit_to_python(v, EXIT_SEMIHOSTING);
        } else if (handle_stop(v)) {
            return true;
        }
    }
}

/* The run has stopped before a watched access: execute that instruction, and no more. One that traps is that exit and
 * no watchpoint; a request that comes first leaves the access for the next run. */
static bool finish_watched(struct vcpu *v)
{
    struct exit_record access = v->exit;
    interpose_set_budget(v->interpose, 1);
    interpose_suspend_stops(v->interpose, true);
    bool good = run(v);
    interpose_suspend_stops(v->interpose, false);
    if (good && v->exit.kind == EXIT_BUDGET) {
        v->exit.kind = EXIT_WATCHPOINT;
        v->exit.hdfar = access.hdfar;
        v->exit.is_write = access.is_write;
    }
    return good;
}

bool vcpu_run(struct vcpu *v, uint64_t budget, bool owner)
{
    if (v->swap_failed)
        return false;
    v->ignored = CP_HOLD | (owner ? CP_STOP : 0);
    v->latched = false; /* an exit that was not answered is over: its instruction is executed again, if at all */
    interpose_set_budget(v->interpose, budget);
    bool good = run(v);
    uint64_t left = interpose_budget_left(v->interpose);
    if (good && v->exit.kind == EXIT_WATCHPOINT) {
        good = finish_watched(v);
        left -= budget != 0 && interpose_budget_left(v->interpose) == 0;
    }
    v->exit.executed = budget - left;
    v->exit.timers = timers_have_news(v);
    return good;
}
