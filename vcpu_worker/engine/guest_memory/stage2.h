/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stage 2, shared by the workers of a host: W^X, page by page. */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_STAGE2_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_STAGE2_H

#include "vcpu_worker/engine/vcpu.h"

#define WX_MS 500u /* how long a page is W+X before it is tried as an ordinary one */

/* The page's entry was `old`, which does not allow the access: make it executable, or writable, or both. */
void stage2_toggle(struct vcpu *v, uint32_t ipa, uint64_t old, bool execute);

/* The hypervisor wrote to the page, past its stage-2 entry: drop what was translated from it. For a page that is about
 * to become executable nothing is dropped: what is translated from it then is what was written. */
void stage2_wrote(struct vcpu *v, uint32_t ipa);

static inline bool is_wx(uint64_t entry)
{
    return (entry & VALID) && !(entry & XN) && (entry & ACCESS_MASK) == READ_WRITE;
}

#endif
