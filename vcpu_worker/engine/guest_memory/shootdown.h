/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Have every vCPU flush, and wait for it. */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_SHOOTDOWN_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_SHOOTDOWN_H

#include "vcpu_worker/engine/vcpu.h"

/* Ask every other vCPU of this host for `bits` and, with `wait`, wait: for those in the guest (broadcast), and with
 * `ipi` also for those that handle an exit. Then do the same here. */
void vcpu_shootdown(struct vcpu *v, uint32_t bits, bool ipi, bool wait);

/* The same, and of every host. */
void vcpu_shootdown_everywhere(struct vcpu *v, uint32_t bits, bool ipi, bool wait);

/* Held outside for long: vCPUs that wait for a flush need not wait for this vCPU. */
void vcpu_rest(struct vcpu *v, bool yes);

/* Off on another host, and it flushes when it is switched on. A host other than the coordinator's may learn of that
 * late. */
bool is_surely_off(const struct cp_host *host, struct cp_vcpu *other);

#endif
