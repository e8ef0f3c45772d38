/* SPDX-License-Identifier: GPL-2.0-or-later */
/* W^X is decided at the fault.
 *
 * A page starts absent. Its first use makes it executable and read-only, or writable and execute-never. The other use
 * faults and toggles it. A toggle breaks before it makes, because other vCPUs hold the old entry in their TLBs:
 *
 *   vCPU0 breaks the entry (compare and swap; a vCPU that loses the race just tries its access again)
 *   vCPU0 posts TLB_FLUSH, and CODE_FLUSH where the page becomes executable, to all, and waits for those in the guest
 *   vCPU0 flushes its own, makes the new entry, and goes on
 *
 * So when vCPU0's store is done, no vCPU executes from the page without a fault; and when vCPU1 has made it executable
 * again, no vCPU holds a translation of what the page was before. Without the break, a third vCPU gets in between:
 * vCPU0 makes the page writable and has yet to post; vCPU2 faults on it too, finds it writable, stores new code and
 * tells vCPU1, which still runs the old code from its TLB. A broken entry has no other meaning than "wait".
 *
 * A page that an instruction writes while executing from it would toggle forever. After MAX_TOGGLES toggles, or when
 * the same instruction toggles it back and forth, it is readable, writable and executable for a while: a W+X page. The
 * engine then sees only its own vCPU's writes to it; those of others come with the instruction cache maintenance that
 * the architecture requires anyway, which traps (maintenance.c).
 */
#include "vcpu_worker/engine/guest_memory/stage2.h"

#include "vcpu_worker/engine/guest_memory/shootdown.h"
#include "vcpu_worker/engine/step.h"

/* An instruction that faults on one page alternately for execution and for writing makes no progress. */
static bool livelocked(struct vcpu *v, uint32_t page, bool execute)
{
    bool alternates = v->last_toggle.pc == v->pc && v->last_toggle.page == page && v->last_toggle.execute != execute;
    v->last_toggle.times = alternates ? v->last_toggle.times + 1 : 0;
    v->last_toggle.pc = v->pc;
    v->last_toggle.page = page;
    v->last_toggle.execute = execute;
    return v->last_toggle.times >= 3;
}

void stage2_toggle(struct vcpu *v, uint32_t ipa, uint64_t old, bool execute)
{
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t toggles = (old & TOGGLE_MASK) >> TOGGLE_SHIFT;
    bool others_may_have_it = has_other_hosts(v) && !(old & OWNED); /* it is only read here then */
    bool wx = (livelocked(v, ipa >> 12, execute) || toggles >= MAX_TOGGLES) && !others_may_have_it;
    uint64_t access = wx ? READ_WRITE : execute ? READ_ONLY : READ_WRITE | XN;
    uint64_t counted = (toggles + (toggles < MAX_TOGGLES)) << TOGGLE_SHIFT;
    uint64_t new = (old & ~(ACCESS_MASK | XN | TOGGLE_MASK)) | access | counted;
    if (!atomic_compare_exchange_strong(entry, &old, new & ~VALID))
        return;
    unsigned count = wx ? CP_COUNT_SHARED_CODE : execute ? CP_COUNT_TOGGLE_EXEC : CP_COUNT_TOGGLE_WRITE;
    struct step step = step_begin(v, count, STEP_NO_HISTOGRAM, STEP_NO_ACTIVITY, 0);
    if (wx)
        cp_add_wx(v->host, ipa >> 12, WX_MS);
    if (execute || wx)
        cp_log_code(v->host, ipa >> 12);
    vcpu_shootdown(v, execute || wx ? CP_TLB_FLUSH | CP_CODE_FLUSH : CP_TLB_FLUSH, false, true);
    step_end(&step, JOURNAL_FLIPPED, ipa, execute, wx, v->pc);
    atomic_store(entry, new);
}

void stage2_wrote(struct vcpu *v, uint32_t ipa)
{
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t entry = atomic_load(entry_of(v, ipa));
    if (!(entry & VALID) || entry & XN || v->as_shipped)
        return;
    cp_log_code(v->host, ipa >> 12);
    vcpu_shootdown(v, CP_CODE_FLUSH, false, true);
}
