/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions that the guest takes to EL1, and its interrupt lines. */
#ifndef ALLSTOP_ENGINE_CPU_ARM_EXCEPTIONS_H
#define ALLSTOP_ENGINE_CPU_ARM_EXCEPTIONS_H

#include "vcpu_worker/engine/vcpu.h"

void vcpu_abort(struct vcpu *v, bool prefetch, uint32_t address, bool is_write, uint32_t lpae_status,
                uint32_t short_status);
void vcpu_undefined(struct vcpu *v);

/* Where the guest's exception vectors are. */
uint32_t vcpu_vectors(struct vcpu *v);

/* The lines of the virtual IRQ (bit 0) and FIQ (bit 1), as the control page's line word has them. False: they are so
 * already. */
bool vcpu_set_interrupt_lines(struct vcpu *v, uint64_t lines);

#endif
