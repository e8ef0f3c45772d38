/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_ARM_EXITS_H
#define ALLSTOP_ENGINE_RUN_ARM_EXITS_H

#include "vcpu_worker/engine/vcpu.h"

/* Serve the exception to EL2 that the guest has just taken. True when Python has to see it, as `exit`. */
bool vcpu_handle(struct vcpu *v);

/* Complete the access that the last MMIO exit latched: a load's value goes to its register, and the instruction
 * retires. */
void vcpu_answer(struct vcpu *v, uint64_t answer);

#endif
