/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_ARM_UNDEFINED_H
#define ALLSTOP_ENGINE_RUN_ARM_UNDEFINED_H

#include "vcpu_worker/engine/vcpu.h"

/* The guest has just taken an exception as UNDEFINED, at `v->pc`: if it was an access to CP14 or CP15, note it in the
 * control page, for the verdict. `cpsr` is that of the instruction. */
void vcpu_note_undefined(struct vcpu *v, uint32_t cpsr);

#endif
