/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/cpu/requests.h"

#include <sched.h>

#include "vcpu_worker/engine/cpu/arm/exceptions.h"
#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/step.h"

#define FLUSHES (CP_TLB_FLUSH | CP_TLB_PAGES | CP_CODE_FLUSH)
#define SINGLY 16u /* so many pages are flushed one by one */

/* Drop the translated blocks of the pages that were logged since this vCPU looked last. */
static void flush_code(struct vcpu *v)
{
    uint64_t head = atomic_load(&v->host->code_head);
    if (head - v->code_seen > CP_CODE_LOG) {
        interpose_drop_code(v->interpose);
        v->code_seen = head;
        return;
    }
    for (; v->code_seen != head; v->code_seen++) {
        _Atomic uint64_t *slot = &v->host->code_log[v->code_seen % CP_CODE_LOG];
        uint64_t entry = atomic_load(slot);
        for (int patience = 1000; entry >> 32 != (uint32_t)(v->code_seen + 1) && patience; patience--) {
            sched_yield(); /* its writer has taken the place and not filled it yet */
            entry = atomic_load(slot);
        }
        if (entry >> 32 != (uint32_t)(v->code_seen + 1)) { /* overwritten, or its writer died */
            interpose_drop_code(v->interpose);
            continue;
        }
        uint32_t page = (uint32_t)entry;
        if (page == CP_CODE_ALL)
            interpose_drop_code(v->interpose);
        else if (page <= UINT32_MAX >> 12 && is_in_ram(v, page << 12))
            interpose_invalidate_code(v->interpose, (page << 12) - RAM_BASE, PAGE_BYTES);
    }
}

/* Forget the translations of the pages that were logged since this vCPU looked last, or all where that is simpler. */
static void flush_pages(struct vcpu *v)
{
    uint64_t head = atomic_load(&v->host->tlb_head);
    bool all = head - v->tlb_seen > SINGLY;
    for (; !all && v->tlb_seen != head; v->tlb_seen++) {
        uint64_t entry = atomic_load(&v->host->tlb_log[v->tlb_seen % CP_TLB_LOG]);
        if (entry >> 32 == (uint32_t)(v->tlb_seen + 1))
            interpose_flush_page(v->interpose, (uint32_t)entry << 12);
        else
            all = true; /* not filled in yet, or overwritten */
    }
    if (all)
        interpose_flush_tlb(v->interpose);
    v->tlb_seen = head;
}

static void flush_translations(struct vcpu *v, uint32_t bits)
{
    uint32_t posted = atomic_load(&v->slot->flush_posted);
    if (bits & CP_TLB_FLUSH) {
        v->tlb_seen = atomic_load(&v->host->tlb_head);
        interpose_flush_tlb(v->interpose);
    } else {
        flush_pages(v);
    }
    cp_count(v->slot, CP_COUNT_TLB_FLUSH);
    atomic_store(&v->slot->flush_served, posted);
    if (atomic_load_explicit(&v->host->tlb_discipline, memory_order_relaxed) == CP_TLB_IPI)
        cp_futex_wake(&v->slot->flush_served);
}

void vcpu_serve(struct vcpu *v)
{
    uint32_t bits = atomic_load(&v->slot->requests) & (FLUSHES | CP_INTERRUPT | CP_PING);
    if (bits == 0)
        return;
    if (bits & FLUSHES)
        step_now(v, JOURNAL_FLUSHED, bits, atomic_load(&v->host->invalidations_begun));
    /* First take the bit, then look at what it stands for: what is posted after that sets it again. */
    atomic_fetch_and(&v->slot->requests, ~bits);
    if (bits & (CP_TLB_FLUSH | CP_TLB_PAGES))
        flush_translations(v, bits);
    if (bits & CP_CODE_FLUSH) {
        flush_code(v);
        cp_count(v->slot, CP_COUNT_CODE_FLUSH);
    }
    if (bits & CP_INTERRUPT) {
        uint64_t line = atomic_load(&v->slot->line);
        if (vcpu_set_interrupt_lines(v, line))
            step_now(v, JOURNAL_LINE_TAKEN, line & 3, v->pc);
        cp_count(v->slot, CP_COUNT_INTERRUPT);
    }
    if (bits & CP_PING) {
        cp_beat(&v->slot->process);
        cp_count(v->slot, CP_COUNT_PING);
    }
}
