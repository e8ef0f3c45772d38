/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The logs of what vCPUs have to drop: pages whose translated blocks, and pages whose translations, are no longer
 * valid.
 *
 * An entry holds its index + 1, so that a reader which is overtaken by CP_CODE_LOG or CP_TLB_LOG entries sees that, and
 * drops everything.
 */
#ifndef ALLSTOP_INVALIDATION_LOG_H
#define ALLSTOP_INVALIDATION_LOG_H

#include "layout.h"

#define CP_CODE_ALL 0xffffffffu /* in the code log: every page */

/* Add a page to the code log. */
static inline void cp_log_code(struct cp_host *host, uint32_t page)
{
    uint64_t index = atomic_fetch_add(&host->code_head, 1);
    atomic_store(&host->code_log[index % CP_CODE_LOG], (index + 1) << 32 | page);
}

/* Add a virtual page to the TLB log. */
static inline void cp_log_tlb(struct cp_host *host, uint32_t page)
{
    uint64_t index = atomic_fetch_add(&host->tlb_head, 1);
    atomic_store(&host->tlb_log[index % CP_TLB_LOG], (index + 1) << 32 | page);
}

#endif
