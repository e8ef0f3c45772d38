/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/guest_memory/access.h"

#include <string.h>

#include "vcpu_worker/engine/guest_memory/faults.h"
#include "vcpu_worker/engine/guest_memory/stage2.h"
#include "vcpu_worker/engine/guest_memory/swap.h"
#include "vcpu_worker/engine/interpose/arm/translate.h"

/* The tables of stage 1 may lie in pages that stage 2 has not seen yet. */
bool vcpu_translate(struct vcpu *v, uint32_t gva, bool write, bool privileged, uint32_t *ipa)
{
    struct translation t;
    while (!interpose_translate(v->interpose, gva, write, privileged, &t)) {
        /* An entry stays broken forever when the vCPU that changes it is killed. */
        if (t.walk_stopped && !run_is_over(v) && stage2_fault(v, t.ipa, false, false))
            continue;
        v->fault_lpae = t.lpae_status;
        v->fault_short = t.short_status;
        return false;
    }
    *ipa = t.ipa;
    return true;
}

/* Not by vcpu_translate: in a run, stage 2 stays as it is. */
bool vcpu_peek_halfword(struct vcpu *v, uint32_t gva, bool privileged, uint16_t *halfword)
{
    struct translation t;
    if (!interpose_translate(v->interpose, gva, false, privileged, &t) || !is_in_ram(v, t.ipa))
        return false;
    memcpy(halfword, v->ram + (t.ipa - RAM_BASE), sizeof *halfword);
    return true;
}

/* Naturally aligned words are written whole. */
static void store(unsigned char *to, const void *data, size_t bytes)
{
    if (bytes == 4 && !((uintptr_t)to & 3))
        atomic_store((_Atomic uint32_t *)to, *(const uint32_t *)data);
    else if (bytes == 8 && !((uintptr_t)to & 7))
        atomic_store((_Atomic uint64_t *)to, *(const uint64_t *)data);
    else if (bytes == 2 && !((uintptr_t)to & 1))
        atomic_store((_Atomic uint16_t *)to, *(const uint16_t *)data);
    else
        memcpy(to, data, bytes);
}

bool vcpu_write_ram(struct vcpu *v, uint32_t ipa, const void *data, size_t bytes)
{
    if (!all_is_in_ram(v, ipa, bytes))
        return false;
    stage2_bring_in(v, ipa, bytes);
    uint64_t taken = 0;
    if (has_other_hosts(v)) { /* another host may ask for the page at any time: keep it while it is written to */
        size_t piece = PAGE_BYTES - (ipa & (PAGE_BYTES - 1));
        if (bytes > piece)
            return vcpu_write_ram(v, ipa, data, piece)
                && vcpu_write_ram(v, ipa + (uint32_t)piece, (const unsigned char *)data + piece, bytes - piece);
        taken = stage2_take(v, ipa);
        if (taken == 0)
            return true; /* the run is over */
    }
    store(v->ram + (ipa - RAM_BASE), data, bytes);
    uint32_t first = ipa & ~(PAGE_BYTES - 1), last = (ipa + (uint32_t)bytes - 1) & ~(PAGE_BYTES - 1);
    if (taken)
        stage2_put_back(v, first, taken);
    for (uint32_t page = first; page <= last; page += PAGE_BYTES)
        stage2_wrote(v, page);
    return true;
}
