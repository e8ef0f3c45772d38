/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/guest_memory/maintenance.h"

#include "vcpu_worker/engine/guest_memory/access.h"
#include "vcpu_worker/engine/guest_memory/shootdown.h"
#include "vcpu_worker/engine/guest_memory/stage2.h"
#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/step.h"

#define CHANCES 8u /* the toggles that are left to a page that was W+X */

/* This vCPU's own translations. */
static void flush_own(struct vcpu *v, const struct invalidated *what)
{
    atomic_fetch_add(&v->host->invalidations_begun, 1);
    if (what->by_page)
        interpose_flush_page(v->interpose, what->page << 12);
    else
        interpose_flush_tlb(v->interpose);
    atomic_fetch_add(&v->host->invalidations_done, 1);
}

static bool is_in_guest(uint32_t mode)
{
    return (mode & CP_MODE_MASK) == CP_IN_GUEST || (mode & CP_MODE_MASK) == CP_EXITING;
}

static bool is_same_entry(uint32_t before, uint32_t now)
{
    return is_in_guest(before) && is_in_guest(now) && before >> 2 == now >> 2;
}

/* The TLB oracle: a vCPU that is still on the very guest entry on which it was `before`, when the invalidation is
 * done, may use what was invalidated, for flushes are served between guest entries only. Returns how many such vCPUs
 * there are. */
static uint32_t count_stale(struct vcpu *v, const uint32_t before[])
{
    uint32_t stale = 0;
    for (uint32_t i = 0; i < v->host->vcpus; i++) {
        struct cp_vcpu *other = cp_vcpu(v->host, i);
        if (!is_same_entry(before[i], atomic_load(&other->mode))
            || (cp_is_remote(other) && is_surely_off(v->host, other)))
            continue;
        cp_count(v->slot, CP_COUNT_STALE_TLB);
        stale++;
    }
    return stale;
}

/* By the machine's discipline, unless an injected event says otherwise. */
static uint32_t invalidate_everywhere(struct vcpu *v, const struct invalidated *what)
{
    uint32_t discipline = atomic_load_explicit(&v->host->tlb_discipline, memory_order_relaxed);
    enum invalidation how = v->next_invalidation;
    v->next_invalidation = INVALIDATION_GOOD;
    if (how == INVALIDATION_LATE || how == INVALIDATION_DROPPED)
        discipline = how == INVALIDATION_LATE ? CP_TLB_EARLY : CP_TLB_LOCAL;
    if (discipline == CP_TLB_LOCAL) {
        flush_own(v, what);
        return discipline;
    }
    if (what->by_page)
        cp_log_tlb(v->host, what->page);
    for (int times = how == INVALIDATION_DOUBLED ? 2 : 1; times > 0; times--)
        vcpu_shootdown_everywhere(v, what->by_page ? CP_TLB_PAGES : CP_TLB_FLUSH, discipline == CP_TLB_IPI,
                                  discipline != CP_TLB_EARLY);
    return discipline;
}

void vcpu_invalidate_tlb(struct vcpu *v, const struct invalidated *what)
{
    uint32_t before[CP_MAX_VCPUS], discipline = CP_TLB_LOCAL, stale = 0;
    struct step step = step_begin(v, CP_COUNT_TLBI, STEP_NO_HISTOGRAM, STEP_NO_ACTIVITY, 0);
    if (what->everywhere) {
        for (uint32_t i = 0; i < v->host->vcpus; i++)
            before[i] = i == v->number ? 0 : atomic_load(&cp_vcpu(v->host, i)->mode);
        discipline = invalidate_everywhere(v, what);
        stale = count_stale(v, before);
    } else {
        flush_own(v, what);
    }
    step_end(&step, JOURNAL_TLBI, v->pc, discipline, stale, atomic_load(&v->host->invalidations_begun));
}

/* A page that was W+X for a while is tried as an ordinary one: many hold code and data only while a guest starts. With
 * few toggles left it is soon W+X again if it has to be. */
static void end_wx(struct vcpu *v, _Atomic uint64_t *place, uint64_t noted)
{
    uint32_t page = (uint32_t)(noted >> 32);
    _Atomic uint64_t *entry = entry_of(v, page << 12);
    uint64_t old = atomic_load(entry);
    if (!is_wx(old) || !atomic_compare_exchange_strong(place, &noted, 0))
        return; /* swapped out, or being changed: later */
    uint64_t new = (old & ~(ACCESS_MASK | TOGGLE_MASK)) | READ_ONLY | (uint64_t)(MAX_TOGGLES - CHANCES) << TOGGLE_SHIFT;
    if (atomic_compare_exchange_strong(entry, &old, new & ~VALID)) {
        cp_log_code(v->host, page);
        vcpu_shootdown(v, CP_TLB_FLUSH | CP_CODE_FLUSH, false, true);
        atomic_store(entry, new);
        atomic_fetch_sub(&v->host->wx_pages, 1);
    } else {
        atomic_fetch_sub(&v->host->wx_pages, 1);
        cp_add_wx(v->host, page, WX_MS);
    }
}

void stage2_sync_code(struct vcpu *v, bool everything, uint32_t gva)
{
    if (atomic_load(&v->host->wx_pages) == 0)
        return; /* W^X has seen every write */
    uint32_t ipa = 0, now_ms = (uint32_t)(cp_now_ns() / 1000000), logged = 0;
    if (!everything && (!vcpu_translate(v, gva, false, true, &ipa) || !is_in_ram(v, ipa)))
        return;
    for (uint32_t i = 0; i < CP_WX_PAGES; i++) {
        uint64_t noted = atomic_load(&v->host->wx[i]);
        if (noted == 0 || (!everything && noted >> 32 != ipa >> 12))
            continue;
        if ((int32_t)(now_ms - (uint32_t)noted) >= 0)
            end_wx(v, &v->host->wx[i], noted);
        else
            cp_log_code(v->host, (uint32_t)(noted >> 32)), logged++;
    }
    if (atomic_load(&v->host->wx_beyond)) {
        if (everything)
            cp_log_code(v->host, CP_CODE_ALL), logged++;
        else if (!logged && is_wx(atomic_load(entry_of(v, ipa))))
            cp_log_code(v->host, ipa >> 12), logged++;
    }
    if (logged)
        vcpu_shootdown(v, CP_CODE_FLUSH, false, true);
}
