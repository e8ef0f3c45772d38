/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/guest_memory/remote.h"

#include "vcpu_worker/engine/guest_memory/shootdown.h"
#include "vcpu_worker/engine/step.h"

void stage2_want(struct vcpu *v, uint32_t ipa, bool write, bool execute)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    uint32_t want = cp_want(ipa, write, execute);
    unsigned count = write ? CP_COUNT_PAGE_WRITE : CP_COUNT_PAGE_READ;
    struct step step = step_begin(v, count, CP_HIST_PAGE, CP_ACTIVITY_PAGE, ipa);
    v->waited_for_page = true;
    vcpu_rest(v, true); /* a vCPU that waits for a flush by us may be on the page's way */
    atomic_store(&v->slot->want, want);
    cp_ring(v->host->doorbell);
    while (atomic_load(&v->slot->want) == want && !run_is_over(v)) {
        cp_futex_wait(&v->slot->want, want, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    atomic_store(&v->slot->want, 0);
    atomic_store(&v->slot->mode, mode);
    step_end(&step, JOURNAL_PAGED, ipa, write, execute, v->pc);
}
