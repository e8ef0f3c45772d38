/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Swap at stage 2, as a hypervisor does it: a page goes to a file, and its frame gets another use.
 *
 *   the actor A (a worker outside the guest)                    a vCPU V that uses the page
 *   break the entry; a flush on every vCPU, waited for          faults from now on, and waits
 *   write the frame to the file, fill it with something else
 *   the entry says SWAPPED                                      its next fault reads the page back, into the same frame
 *
 * A stands for an actor beside the vCPUs. So it does not act in a world that another has stopped: while it changes the
 * frame it counts as in the guest, and a stop waits for it. A vCPU for which A may wait never has to wait for A: when
 * the world is stopped, or (`ipi`) a vCPU in the middle of an exit needs the page, A makes the entry valid again.
 */
#include "vcpu_worker/engine/guest_memory/swap.h"

#include <sched.h>

#include "vcpu_worker/engine/guest_memory/remote.h"
#include "vcpu_worker/engine/guest_memory/shootdown.h"
#include "vcpu_worker/engine/guest_memory/stage2.h"

/* Count as in the guest, when the world is not stopped. False when the run is over. */
static bool begin_to_act(struct vcpu *v)
{
    while (!cp_enter(v->slot, ~(uint32_t)(CP_STOP | CP_QUIT))) {
        cp_exit(v->slot);
        if (run_is_over(v))
            return false;
        cp_park(v->slot, CP_STOP, CP_QUIT, PARK_NS);
        cp_beat(&v->slot->process);
    }
    return true;
}

/* The `ipi` discipline: wait until every vCPU that handles an exit is done with it. False when one of them needs the
 * page to get there, or the run is over. */
static bool wait_for_exits(struct vcpu *v, _Atomic uint64_t *entry)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    bool good = true;
    atomic_store(&v->slot->mode, mode | CP_SLEEPING); /* others may wait for us: we have flushed */
    cp_futex_wake(&v->slot->flush_served);
    for (uint32_t i = 0; good && i < v->host->vcpus; i++) {
        struct cp_vcpu *other = cp_vcpu(v->host, i);
        uint32_t posted = atomic_load(&other->flush_posted), served;
        while (i != v->number && !cp_is_remote(other)
               && (int32_t)((served = atomic_load(&other->flush_served)) - posted) < 0
               && (atomic_load(&other->mode) & CP_MODE_MASK) != CP_SLEEPING
               && atomic_load(&other->power) == CP_POWER_ON) {
            cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, i);
            good = !(atomic_load(entry) & WANTED) && !run_is_over(v);
            if (!good)
                break;
            cp_futex_wait(&other->flush_served, served, 100000);
            cp_beat(&v->slot->process);
        }
    }
    atomic_store(&v->slot->mode, mode);
    return good;
}

enum swap_result stage2_swap_out(struct vcpu *v, uint32_t ipa, uint32_t fill, bool ipi)
{
    if (v->swap_fd < 0) {
        snprintf(v->sentence, sizeof v->sentence, "this machine has no swap file");
        return SWAP_FAILED;
    }
    if (!is_in_ram(v, ipa))
        return SWAP_UNUSED;
    ipa &= ~(PAGE_BYTES - 1);
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t old;
    for (;;) {
        old = atomic_load(entry);
        if (!(old & VALID))
            return old == 0 || old == OWNED ? SWAP_UNUSED : SWAP_BUSY;
        if (!atomic_compare_exchange_strong(entry, &old, (old & ~VALID) | BROKEN))
            return SWAP_BUSY;
        vcpu_shootdown(v, CP_TLB_FLUSH, false, true);
        if (ipi && !wait_for_exits(v, entry)) {
            atomic_store(entry, old);
            return SWAP_BUSY;
        }
        if (cp_enter(v->slot, ~(uint32_t)(CP_STOP | CP_QUIT)))
            break;
        /* The owner of the stopped world may need this page: it must not wait for us. */
        cp_exit(v->slot);
        atomic_store(entry, old);
        if (!begin_to_act(v))
            return SWAP_BUSY;
        cp_exit(v->slot);
    }
    uint32_t *frame = (uint32_t *)(v->ram + (ipa - RAM_BASE));
    struct swap_record record = { swap_hash(frame), old, fill, 1 };
    struct guest_pages pages = vcpu_pages(v);
    bool written = swap_transfer(&pages, ipa, frame, &record, true, v->sentence);
    if (written)
        for (unsigned i = 0; i < SWAP_WORDS; i++)
            frame[i] = fill;
    atomic_store(entry, written ? SWAPPED : old);
    cp_exit(v->slot);
    if (!written)
        return SWAP_FAILED;
    cp_count(v->slot, CP_COUNT_SWAP_OUT);
    return SWAP_DONE;
}

enum swap_result stage2_swap_in(struct vcpu *v, uint32_t ipa)
{
    if (!is_in_ram(v, ipa))
        return SWAP_UNUSED;
    struct guest_pages pages = vcpu_pages(v);
    bool written;
    enum swap_result result = swap_page_in(&pages, ipa & ~(PAGE_BYTES - 1), &written, v->sentence);
    if (result == SWAP_FAILED)
        v->swap_failed = true;
    if (result == SWAP_DONE)
        cp_count(v->slot, CP_COUNT_SWAP_IN);
    if (written)
        cp_count(v->slot, CP_COUNT_SWAP_WRITTEN);
    return result;
}

uint64_t stage2_take(struct vcpu *v, uint32_t ipa)
{
    bool hosts = has_other_hosts(v);
    ipa &= ~(PAGE_BYTES - 1);
    for (;;) {
        stage2_bring_in(v, ipa, 1);
        uint64_t old = atomic_load(entry_of(v, ipa));
        if (run_is_over(v) || v->swap_failed)
            return 0;
        if (hosts && page_is_away(old, true))
            stage2_want(v, ipa, true, false);
        else if ((page_is_fresh(old, hosts) || old & VALID)
                 && atomic_compare_exchange_strong(entry_of(v, ipa), &old, (old & ~VALID) | BROKEN))
            return old;
    }
}

void stage2_put_back(struct vcpu *v, uint32_t ipa, uint64_t entry)
{
    atomic_store(entry_of(v, ipa), entry);
}

bool stage2_reuse(struct vcpu *v, uint32_t ipa, uint32_t fill)
{
    if (!is_in_ram(v, ipa))
        return false;
    ipa &= ~(PAGE_BYTES - 1);
    uint64_t taken = 0;
    if (has_other_hosts(v) && (taken = stage2_take(v, ipa)) == 0)
        return false;
    if (!begin_to_act(v)) {
        if (taken)
            stage2_put_back(v, ipa, taken);
        return false;
    }
    uint32_t *frame = (uint32_t *)(v->ram + (ipa - RAM_BASE));
    for (unsigned i = 0; i < SWAP_WORDS; i++)
        frame[i] = fill;
    cp_exit(v->slot);
    if (taken)
        stage2_put_back(v, ipa, taken);
    stage2_wrote(v, ipa);
    return true;
}

void stage2_bring_in(struct vcpu *v, uint32_t ipa, uint64_t bytes)
{
    bool hosts = has_other_hosts(v);
    for (uint64_t page = ipa & ~(PAGE_BYTES - 1); page < (uint64_t)ipa + bytes; page += PAGE_BYTES)
        while (is_in_ram(v, (uint32_t)page) && !v->swap_failed && !run_is_over(v)) {
            uint64_t old = atomic_load(entry_of(v, (uint32_t)page));
            if (hosts && page_is_away(old, false)) {
                stage2_want(v, (uint32_t)page, false, false);
                continue;
            }
            if (page_is_fresh(old, hosts) || old & VALID)
                break;
            if (stage2_swap_in(v, (uint32_t)page) == SWAP_BUSY) {
                if (old & BROKEN)
                    atomic_compare_exchange_strong(entry_of(v, (uint32_t)page), &old, old | WANTED);
                cp_shootdown_park(v->host, PARK_NS);
                sched_yield();
            }
        }
}
