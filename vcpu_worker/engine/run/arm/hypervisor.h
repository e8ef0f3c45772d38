/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EL2's own registers, and the state in which a guest starts. */
#ifndef ALLSTOP_ENGINE_RUN_ARM_HYPERVISOR_H
#define ALLSTOP_ENGINE_RUN_ARM_HYPERVISOR_H

#include "vcpu_worker/engine/vcpu.h"

#define STAGE2_BASE 0xf0000000u /* where the library's CPU sees the stage-2 tables: above any guest RAM */

void hypervisor_configure(struct vcpu *v, uint32_t mpidr);

/* SVC mode, MMU off, interrupts masked; Thumb where `entry` is odd. */
void hypervisor_enter_at(struct vcpu *v, uint32_t entry, const uint32_t r[3]);

/* The library's context was replaced: HCR is ours. No interrupt line is up. */
void hypervisor_restored(struct vcpu *v);

#endif
