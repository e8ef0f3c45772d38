/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Semihosting calls: instructions that ask the host for something. Semihosting for AArch32 and AArch64 (ARM, 2.0)
 * lists them, and QEMU, for HLT on a CPU older than ARMv8. They are calls in privileged modes only, as in QEMU. */
#include "vcpu_worker/engine/run/arm/semihosting.h"

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/run/arm/instruction.h"

enum { SUPERVISOR_CALL = 2, BREAKPOINT = 7 }; /* the library's exception numbers; 0, undefined, is ours */

bool vcpu_calls_host(struct vcpu *v, uint32_t exception)
{
    uint32_t cpsr = vcpu_register(v, UC_ARM_REG_CPSR), word, wanted;
    bool thumb = cpsr & PSR_T;
    switch (exception) {
    case SUPERVISOR_CALL:
        wanted = thumb ? 0xdfab : 0x0f123456;
        break;
    case BREAKPOINT:
        wanted = thumb ? 0xbeab : 0;
        break;
    case 0:
        wanted = thumb ? 0xbabc : 0x010f0070;
        break; /* HLT */
    default:
        wanted = 0;
    }
    uint32_t length = thumb ? 2 : 4;
    uint32_t at = exception == SUPERVISOR_CALL ? v->pc - length : v->pc; /* where it returns to */
    if (wanted == 0 || !is_privileged(cpsr) || vcpu_peek(v, at, thumb, true, &word) != length)
        return false;
    if ((thumb ? word : word & 0x0fffffff) != wanted || (!thumb && word >> 28 == 15))
        return false;
    v->cpsr = cpsr;
    if (exception != SUPERVISOR_CALL)
        vcpu_retire(v, length);
    return true;
}
