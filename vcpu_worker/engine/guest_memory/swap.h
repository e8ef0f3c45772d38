/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages in their frames, in the swap file or on other hosts: have them where they are needed. */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_SWAP_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_SWAP_H

#include "vcpu_worker/engine/vcpu.h"

/* Swap out the page of `ipa` and fill its frame. Outside the guest, and not in a world that this vCPU has stopped. */
enum swap_result stage2_swap_out(struct vcpu *v, uint32_t ipa, uint32_t fill, bool ipi);
enum swap_result stage2_swap_in(struct vcpu *v, uint32_t ipa);
/* Fill a frame that no page uses any more, when the world is not stopped. False outside RAM, and when the run is
 * over. */
bool stage2_reuse(struct vcpu *v, uint32_t ipa, uint32_t fill);
/* Have these bytes in their frames: swapped in, on this host, and their entries unbroken. */
void stage2_bring_in(struct vcpu *v, uint32_t ipa, uint64_t bytes);
/* Have the page, on which this vCPU is about to write past stage 2, in its frame and its entry broken, until it is put
 * back with the entry that is returned; 0 when the run is over. */
uint64_t stage2_take(struct vcpu *v, uint32_t ipa);
void stage2_put_back(struct vcpu *v, uint32_t ipa, uint64_t entry);

#endif
