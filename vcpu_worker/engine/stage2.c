/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stage 2, shared by the workers of a host: write-xor-execute, page by page, decided at the fault.
 *
 * A page starts absent. Its first use makes it executable and read-only, or writable and execute-never. The other use
 * faults and flips it. Flipping breaks before it makes, because other vCPUs hold the old entry in their TLBs:
 *
 *   vCPU0 breaks the entry (compare and swap; a vCPU that loses the race just tries its access again)
 *   vCPU0 posts TLB_FLUSH, and CODE_FLUSH where the page becomes executable, to all, and waits for those in the guest
 *   vCPU0 flushes its own, makes the new entry, and goes on
 *
 * So when vCPU0's store is done, no vCPU executes from the page without a fault; and when vCPU1 has made it executable
 * again, nobody holds a translation of what the page was before. Without the break, a third party gets in between: vCPU0
 * makes the page writable and has yet to post; vCPU2 faults on it too, finds it writable, stores new code and tells
 * vCPU1, which still runs the old code from its TLB. A broken entry has no other meaning than "wait".
 *
 * A page that an instruction writes while executing from it would flip for ever. After FLIPS flips, or when the same
 * instruction flips it back and forth, it is readable, writable and executable for a while: a mixed page. The engine then sees
 * only its own vCPU's writes to it; those of others come with the instruction cache maintenance that the architecture
 * asks for anyway, which traps (stage2_sync_code).
 */
#include "vcpu.h"

#include <sched.h>

#define MIXED_MS 500u /* how long a page is mixed before it gets a chance */
#define CHANCES 8u    /* the flips that it then has */

bool stage2_in_ram(const struct vcpu *v, uint32_t ipa)
{
    return ipa >= RAM_BASE && (uint64_t)ipa - RAM_BASE < v->ram_bytes;
}

bool stage2_all_in_ram(const struct vcpu *v, uint32_t ipa, uint64_t bytes)
{
    return stage2_in_ram(v, ipa) && bytes != 0 && bytes <= v->ram_bytes - (ipa - RAM_BASE);
}

/* An instruction that faults on one page in turns, for execution and for writing, makes no progress. */
static bool livelocked(struct vcpu *v, uint32_t page, bool execute)
{
    bool in_turns = v->flip_pc == v->pc && v->flip_page == page && v->flip_execute != execute;
    v->flips_here = in_turns ? v->flips_here + 1 : 0;
    v->flip_pc = v->pc;
    v->flip_page = page;
    v->flip_execute = execute;
    return v->flips_here >= 3;
}

static void flip(struct vcpu *v, uint32_t ipa, uint64_t old, bool execute)
{
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t flips = (old & FLIP_MASK) >> FLIP_SHIFT, start = v->journal ? journal_now_ns() : 0;
    bool others_may_have_it = v->host->doorbell && !(old & OWNED); /* then it is read here, and does not flip back */
    bool keep_all = (livelocked(v, ipa >> 12, execute) || flips >= FLIPS) && !others_may_have_it;
    uint64_t access = keep_all ? READ_WRITE : execute ? READ_ONLY : READ_WRITE | XN;
    uint64_t new = (old & ~(ACCESS_MASK | XN | FLIP_MASK)) | access | (flips + (flips < FLIPS)) << FLIP_SHIFT;
    if (!atomic_compare_exchange_strong(entry, &old, new & ~VALID))
        return;
    if (keep_all)
        cp_add_wx(v->host, ipa >> 12, MIXED_MS);
    cp_count(v->slot, keep_all ? CP_COUNT_SHARED_CODE : execute ? CP_COUNT_TOGGLE_EXEC : CP_COUNT_TOGGLE_WRITE);
    if (execute || keep_all)
        cp_log_code(v->host, ipa >> 12);
    vcpu_shootdown(v, execute || keep_all ? CP_TLB_FLUSH | CP_CODE_FLUSH : CP_TLB_FLUSH, false, true);
    if (v->journal)
        journal_span(v->journal, JOURNAL_FLIPPED, v->number, start, ipa, execute, keep_all, v->pc);
    atomic_store(entry, new);
}

void stage2_want(struct vcpu *v, uint32_t ipa, bool write, bool execute)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    uint32_t want = cp_want(ipa, write, execute);
    uint64_t start = cp_now_ns();
    v->waited_for_page = true;
    cp_activity(&v->slot->process, CP_ACTIVITY_PAGE, ipa);
    vcpu_rest(v, true); /* whoever waits for a flush by us may be on the page's way */
    atomic_store(&v->slot->want, want);
    cp_ring(v->host->doorbell);
    while (atomic_load(&v->slot->want) == want && !(atomic_load(&v->slot->requests) & CP_QUIT)) {
        cp_futex_wait(&v->slot->want, want, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    atomic_store(&v->slot->want, 0);
    atomic_store(&v->slot->mode, mode);
    cp_count(v->slot, write ? CP_COUNT_PAGE_WRITE : CP_COUNT_PAGE_READ);
    cp_record(v->slot, CP_HIST_PAGE, cp_now_ns() - start);
    if (v->journal)
        journal_span(v->journal, JOURNAL_PAGED, v->number, start, ipa, write, execute, v->pc);
}

bool stage2_fault(struct vcpu *v, uint32_t ipa, bool execute, bool write)
{
    if (!stage2_in_ram(v, ipa))
        return false;
    cp_count(v->slot, CP_COUNT_STAGE2_FAULT);
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t old = atomic_load(entry);
    bool hosts = v->host->doorbell != 0;
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
        if (!page_is_fresh(old, hosts)) { /* broken: whoever flips it waits for others, who may need this core */
            sched_yield();
            cp_shootdown_park(v->host, PARK_NS);
            return true;
        }
        uint64_t access = v->as_shipped ? READ_WRITE : execute ? READ_ONLY : READ_WRITE | XN;
        atomic_compare_exchange_strong(entry, &old, old | (ipa & ~0xfffu) | ATTRIBUTES | access);
        return true;
    }
    /* The entry may allow the access by now: another vCPU flipped it between our fault and here. */
    if (execute && (old & XN))
        flip(v, ipa, old, true);
    else if (write && (old & ACCESS_MASK) != READ_WRITE)
        flip(v, ipa, old, false);
    return true;
}

static void drop_code(struct vcpu *v, uint32_t page)
{
    cp_log_code(v->host, page);
    vcpu_shootdown(v, CP_CODE_FLUSH, false, true);
}

static bool is_wx(uint64_t entry)
{
    return (entry & VALID) && !(entry & XN) && (entry & ACCESS_MASK) == READ_WRITE;
}

void stage2_wrote(struct vcpu *v, uint32_t ipa)
{
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t entry = atomic_load(entry_of(v, ipa));
    if ((entry & VALID) && !(entry & XN) && !v->as_shipped)
        drop_code(v, ipa >> 12);
}

/* A page that was mixed for a while gets a chance as an ordinary one: many are code and data only while a guest starts.
 * With few flips left it is soon mixed again if it has to be. */
static void unmix(struct vcpu *v, _Atomic uint64_t *place, uint64_t mixed)
{
    uint32_t page = (uint32_t)(mixed >> 32);
    _Atomic uint64_t *entry = entry_of(v, page << 12);
    uint64_t old = atomic_load(entry);
    if (!is_wx(old) || !atomic_compare_exchange_strong(place, &mixed, 0))
        return; /* swapped out, or being changed: later */
    uint64_t new = (old & ~(ACCESS_MASK | FLIP_MASK)) | READ_ONLY | (uint64_t)(FLIPS - CHANCES) << FLIP_SHIFT;
    if (atomic_compare_exchange_strong(entry, &old, new & ~VALID)) {
        cp_log_code(v->host, page);
        vcpu_shootdown(v, CP_TLB_FLUSH | CP_CODE_FLUSH, false, true);
        atomic_store(entry, new);
        atomic_fetch_sub(&v->host->wx_pages, 1);
    } else {
        atomic_fetch_sub(&v->host->wx_pages, 1);
        cp_add_wx(v->host, page, MIXED_MS);
    }
}

void stage2_sync_code(struct vcpu *v, bool everything, uint32_t gva)
{
    if (atomic_load(&v->host->wx_pages) == 0)
        return; /* write-xor-execute has seen every write */
    uint32_t ipa = 0, now_ms = (uint32_t)(cp_now_ns() / 1000000), logged = 0;
    if (!everything && (!vcpu_translate(v, gva, false, true, &ipa) || !stage2_in_ram(v, ipa)))
        return;
    for (uint32_t i = 0; i < CP_WX_PAGES; i++) {
        uint64_t mixed = atomic_load(&v->host->wx[i]);
        if (mixed == 0 || (!everything && mixed >> 32 != ipa >> 12))
            continue;
        if ((int32_t)(now_ms - (uint32_t)mixed) >= 0)
            unmix(v, &v->host->wx[i], mixed);
        else
            cp_log_code(v->host, (uint32_t)(mixed >> 32)), logged++;
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
