/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/guest_memory/faults.h"

#include <sched.h>

#include "vcpu_worker/engine/guest_memory/remote.h"
#include "vcpu_worker/engine/guest_memory/stage2.h"
#include "vcpu_worker/engine/guest_memory/swap.h"

bool stage2_fault(struct vcpu *v, uint32_t ipa, bool execute, bool write)
{
    if (!is_in_ram(v, ipa))
        return false;
    cp_count(v->slot, CP_COUNT_STAGE2_FAULT);
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t old = atomic_load(entry);
    bool hosts = has_other_hosts(v);
    if (hosts && page_is_away(old, write)) {
        stage2_want(v, ipa, write, execute);
        old = atomic_load(entry);
        if (page_is_away(old, write))
            return true;
    }
    if (!(old & VALID)) {
        if (old & SWAPPED) {
            stage2_swap_in(v, ipa);
            return true;
        }
        if (!page_is_fresh(old, hosts)) { /* broken, by a vCPU that waits for others, which may need this core */
            sched_yield();
            cp_shootdown_park(v->host, PARK_NS);
            return true;
        }
        uint64_t access = v->as_shipped ? READ_WRITE : execute ? READ_ONLY : READ_WRITE | XN;
        atomic_compare_exchange_strong(entry, &old, old | (ipa & ~(PAGE_BYTES - 1)) | ATTRIBUTES | access);
        return true;
    }
    /* The entry may allow the access by now: another vCPU toggled it between our fault and here. */
    if (execute && (old & XN))
        stage2_toggle(v, ipa, old, true);
    else if (write && (old & ACCESS_MASK) != READ_WRITE)
        stage2_toggle(v, ipa, old, false);
    return true;
}
