/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's maintenance of TLBs and instruction caches. */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_MAINTENANCE_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_MAINTENANCE_H

#include "vcpu_worker/engine/vcpu.h"

struct invalidated {
    bool everywhere; /* on every vCPU, else on this one */
    bool by_page;    /* `page` only, a virtual page's number; else everything */
    uint32_t page;
};

/* Invalidate translations, by the machine's TLB discipline, and let the TLB oracle look. */
void vcpu_invalidate_tlb(struct vcpu *v, const struct invalidated *what);

/* Instruction cache maintenance by address, or of all: other vCPUs see what was written to W+X pages. */
void stage2_sync_code(struct vcpu *v, bool everything, uint32_t gva);

#endif
