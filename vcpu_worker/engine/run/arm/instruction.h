/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_ARM_INSTRUCTION_H
#define ALLSTOP_ENGINE_RUN_ARM_INSTRUCTION_H

#include "vcpu_worker/engine/vcpu.h"

/* The instruction that the guest has just executed, as memory has it now: another vCPU may have changed it since. Its
 * length; 0 where it cannot be read. The first halfword of a wide Thumb instruction is in the upper half. Allowed in a
 * run. */
unsigned vcpu_peek(struct vcpu *v, uint32_t gva, bool thumb, bool privileged, uint32_t *word);

#endif
