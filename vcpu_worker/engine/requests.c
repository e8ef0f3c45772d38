/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What vCPUs ask of one another: serving what was posted, posting and waiting, and the guest's TLB maintenance with its
 * oracle. */
#include "vcpu.h"

#include <sched.h>

#include "architecture.h"

#define FLUSHES (CP_TLB_FLUSH | CP_TLB_PAGES | CP_CODE_FLUSH)
#define INNER_SHAREABLE 3u /* CRm of TLBIALLIS and the like */
#define SINGLY 16u /* so many pages are flushed one by one */

/* Drop the translated blocks of the pages that were logged since this vCPU looked last. */
static void flush_code(struct vcpu *v)
{
    uint64_t head = atomic_load(&v->host->code_head);
    if (head - v->code_seen > CP_CODE_LOG) {
        seam_drop_code();
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
            seam_drop_code();
            continue;
        }
        uint32_t page = (uint32_t)entry;
        if (page == CP_CODE_ALL)
            seam_drop_code();
        else if (page <= UINT32_MAX >> 12 && stage2_in_ram(v, page << 12))
            seam_invalidate_code((page << 12) - RAM_BASE, 4096);
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
            seam_flush_page((uint32_t)entry << 12);
        else
            all = true; /* not filled in yet, or overwritten */
    }
    if (all)
        seam_flush_tlb();
    v->tlb_seen = head;
}

void vcpu_serve(struct vcpu *v)
{
    uint32_t bits = atomic_load(&v->slot->requests) & (FLUSHES | CP_INTERRUPT | CP_PING);
    if (bits == 0)
        return;
    /* First take the bit, then look at what it stands for: what is posted after that sets it again. */
    if (v->journal && bits & FLUSHES)
        journal_event(v->journal, JOURNAL_FLUSHED, v->number, bits, atomic_load(&v->host->invalidations_begun));
    atomic_fetch_and(&v->slot->requests, ~bits);
    uint32_t posted = atomic_load(&v->slot->flush_posted);
    if (bits & (CP_TLB_FLUSH | CP_TLB_PAGES)) {
        if (bits & CP_TLB_FLUSH) {
            v->tlb_seen = atomic_load(&v->host->tlb_head);
            seam_flush_tlb();
        } else {
            flush_pages(v);
        }
        cp_count(v->slot, CP_COUNT_TLB_FLUSH);
        atomic_store(&v->slot->flush_served, posted);
        if (atomic_load_explicit(&v->host->tlb_discipline, memory_order_relaxed) == CP_TLB_IPI)
            cp_futex_wake(&v->slot->flush_served);
    }
    if (bits & CP_CODE_FLUSH) {
        flush_code(v);
        cp_count(v->slot, CP_COUNT_CODE_FLUSH);
    }
    if (bits & CP_INTERRUPT) {
        uint64_t line = atomic_load(&v->slot->line);
        uint32_t hcr = (v->hcr & ~(HCR_VI | HCR_VF)) | (line & 1 ? HCR_VI : 0) | (line & 2 ? HCR_VF : 0);
        if (hcr != v->hcr) {
            SET_CP(v, 1, 1, 4, 0, v->hcr = hcr);
            if (v->journal)
                journal_event(v->journal, JOURNAL_LINE_TAKEN, v->number, line & 3, v->pc);
        }
        cp_count(v->slot, CP_COUNT_INTERRUPT);
    }
    if (bits & CP_PING) {
        cp_beat(&v->slot->process);
        cp_count(v->slot, CP_COUNT_PING);
    }
}

/* Off on another host, and it flushes when it is switched on. Others than the coordinator's host may learn of that late. */
static bool is_surely_off(const struct cp_host *host, struct cp_vcpu *other)
{
    return host->has_coordinator && atomic_load(&other->power) == CP_POWER_OFF;
}

/* Ask every other vCPU for `bits`, `everywhere` or on this host, and wait: for those in the guest (broadcast), and with `ipi`
 * also for those that handle an exit. A vCPU that itself waits here, sleeps or is off will flush before it uses a
 * translation again. On other hosts their nodes wait, for both, before they say that a vCPU has left. */
static void shoot(struct vcpu *v, uint32_t bits, bool ipi, bool wait, bool everywhere)
{
    uint32_t exiting[CP_MAX_VCPUS], ticket[CP_MAX_VCPUS];
    uint32_t n = v->host->vcpus;
    uint64_t start = cp_now_ns();
    uint64_t invalidation = atomic_fetch_add(&v->host->invalidations_begun, 1) + 1;
    if (wait)
        cp_shootdown_begin(v->host);
    for (uint32_t i = 0; i < n; i++) {
        if (i == v->number)
            continue;
        struct cp_vcpu *other = cp_vcpu(v->host, i);
        bool remote = cp_is_remote(other);
        exiting[i] = 0;
        if (remote && (!everywhere || is_surely_off(v->host, other)))
            continue;
        ticket[i] = atomic_fetch_add(&other->flush_posted, 1) + 1;
        exiting[i] = cp_post(other, remote && bits & CP_TLB_PAGES ? CP_TLB_FLUSH : bits); /* the log is this host's */
    }
    if (wait) {
        uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
        if (ipi) { /* others may wait for us: we are as good as flushed */
            atomic_store(&v->slot->mode, mode | CP_SLEEPING);
            cp_futex_wake(&v->slot->flush_served);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (i == v->number)
                continue;
            struct cp_vcpu *other = cp_vcpu(v->host, i);
            if (exiting[i] && atomic_load(&other->mode) == exiting[i])
                cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, i);
            while (exiting[i] && !cp_wait_exited(other, exiting[i], cp_now_ns() + SLICE_NS)) {
                cp_beat(&v->slot->process);
                if (atomic_load(&v->slot->requests) & CP_QUIT)
                    break;
            }
            while (ipi && !cp_is_remote(other) && !(atomic_load(&v->slot->requests) & CP_QUIT)) {
                uint32_t served = atomic_load(&other->flush_served);
                if ((int32_t)(served - ticket[i]) >= 0 || (atomic_load(&other->mode) & CP_MODE_MASK) == CP_SLEEPING
                    || atomic_load(&other->power) != CP_POWER_ON)
                    break;
                cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, i);
                cp_futex_wait(&other->flush_served, served, 1000000);
                cp_beat(&v->slot->process);
            }
        }
        if (ipi)
            atomic_store(&v->slot->mode, mode);
        cp_shootdown_end(v->host);
    }
    atomic_fetch_add(&v->host->invalidations_done, 1);
    cp_record(v->slot, CP_HIST_SHOOTDOWN, cp_now_ns() - start);
    if (v->journal)
        journal_span(v->journal, JOURNAL_SHOOTDOWN, v->number, start, bits, ipi, invalidation);
    /* Our own, now. */
    atomic_fetch_or(&v->slot->requests, bits);
    vcpu_serve(v);
}

void vcpu_shootdown(struct vcpu *v, uint32_t bits, bool ipi, bool wait)
{
    shoot(v, bits, ipi, wait, false);
}

/* As a sleeper is: what is posted meanwhile is served before the vCPU enters. */
void vcpu_rest(struct vcpu *v, bool yes)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    atomic_store(&v->slot->mode, mode | (yes ? CP_SLEEPING : CP_OUTSIDE));
    if (yes)
        cp_futex_wake(&v->slot->flush_served);
}

/* TLBIMVA, TLBIMVAA and their inner-shareable forms name a page; the others are taken for all there is. */
static bool names_page(const struct exit_record *x)
{
    return (x->hsr >> 14 & 7) == 0 && ((x->hsr >> 17 & 7) == 1 || (x->hsr >> 17 & 7) == 3);
}

static void flush_own(bool by_page, uint32_t page)
{
    if (by_page)
        seam_flush_page(page << 12);
    else
        seam_flush_tlb();
}

static bool same_stay(uint32_t before, uint32_t now)
{
    bool was_in = (before & CP_MODE_MASK) == CP_IN_GUEST || (before & CP_MODE_MASK) == CP_EXITING;
    bool is_in = (now & CP_MODE_MASK) == CP_IN_GUEST || (now & CP_MODE_MASK) == CP_EXITING;
    return was_in && is_in && before >> 2 == now >> 2;
}

/* A guest's TLB maintenance, and the TLB oracle: a vCPU that is still on the very stay in the guest on which it was
 * before, when the invalidation is done, may use what was invalidated. Flushes are served between stays only. */
void vcpu_invalidate_tlb(struct vcpu *v)
{
    uint32_t discipline = atomic_load_explicit(&v->host->tlb_discipline, memory_order_relaxed);
    uint32_t before[CP_MAX_VCPUS], stale = 0;
    uint64_t start = v->journal ? journal_now_ns() : 0;
    cp_count(v->slot, CP_COUNT_TLBI);
    bool by_page = names_page(&v->exit);
    uint32_t page = by_page ? vcpu_register(v, vcpu_core_id(v->exit.hsr >> 5 & 15)) >> 12 : 0;
    if ((v->exit.hsr >> 1 & 15) != INNER_SHAREABLE) { /* this vCPU's own translations, whatever the discipline */
        atomic_fetch_add(&v->host->invalidations_begun, 1);
        flush_own(by_page, page);
        atomic_fetch_add(&v->host->invalidations_done, 1);
        if (v->journal)
            journal_span(v->journal, JOURNAL_TLBI, v->number, start, v->pc, CP_TLB_LOCAL, 0,
                         atomic_load(&v->host->invalidations_begun));
        vcpu_retire(v, 4);
        return;
    }
    enum invalidation how = v->next_invalidation;
    v->next_invalidation = INVALIDATION_GOOD;
    if (how == INVALIDATION_LATE || how == INVALIDATION_DROPPED)
        discipline = how == INVALIDATION_LATE ? CP_TLB_EARLY : CP_TLB_LOCAL;
    for (uint32_t i = 0; i < v->host->vcpus; i++)
        before[i] = i == v->number ? 0 : atomic_load(&cp_vcpu(v->host, i)->mode);
    if (discipline == CP_TLB_LOCAL) {
        atomic_fetch_add(&v->host->invalidations_begun, 1);
        flush_own(by_page, page);
        atomic_fetch_add(&v->host->invalidations_done, 1);
    } else {
        if (by_page)
            cp_log_tlb(v->host, page);
        for (int times = how == INVALIDATION_DOUBLED ? 2 : 1; times > 0; times--)
            shoot(v, by_page ? CP_TLB_PAGES : CP_TLB_FLUSH, discipline == CP_TLB_IPI, discipline != CP_TLB_EARLY, true);
    }
    for (uint32_t i = 0; i < v->host->vcpus; i++)
        if (same_stay(before[i], atomic_load(&cp_vcpu(v->host, i)->mode))
            && !(cp_is_remote(cp_vcpu(v->host, i)) && is_surely_off(v->host, cp_vcpu(v->host, i)))) {
            cp_count(v->slot, CP_COUNT_STALE_TLB);
            stale++;
        }
    if (v->journal)
        journal_span(v->journal, JOURNAL_TLBI, v->number, start, v->pc, discipline, stale,
                     atomic_load(&v->host->invalidations_begun));
    vcpu_retire(v, 4);
}
