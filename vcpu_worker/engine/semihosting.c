/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Semihosting calls: instructions that ask the host for something. Which ones: Semihosting for AArch32 and AArch64 (ARM, 2.0),
 * and QEMU, for HLT on a CPU of before ARMv8. They count in privileged modes only, as in QEMU. */
#include "vcpu.h"

#include <unicorn/arm.h>

#include "architecture.h"

enum { SUPERVISOR_CALL = 2, BREAKPOINT = 7 }; /* the library's exception numbers; 0, undefined, is ours */

/* In front of an exception: whether its instruction is a call to the host. Then PC is after it, and it is over. */
bool vcpu_calls_host(struct vcpu *v, uint32_t exception)
{
    uint32_t cpsr = vcpu_register(v, UC_ARM_REG_CPSR), word, wanted;
    bool thumb = cpsr & PSR_T;
    switch (exception) {
    case SUPERVISOR_CALL: wanted = thumb ? 0xdfab : 0x0f123456; break;
    case BREAKPOINT: wanted = thumb ? 0xbeab : 0; break;
    case 0: wanted = thumb ? 0xbabc : 0x010f0070; break; /* HLT */
    default: wanted = 0;
    }
    uint32_t length = thumb ? 2 : 4;
    uint32_t at = exception == SUPERVISOR_CALL ? v->pc - length : v->pc; /* where it returns to */
    if (wanted == 0 || (cpsr & 0x1f) == MODE_USR || vcpu_peek(v, at, thumb, true, &word) != length)
        return false;
    if ((thumb ? word : word & 0x0fffffff) != wanted || (!thumb && word >> 28 == 15))
        return false;
    v->cpsr = cpsr;
    if (exception != SUPERVISOR_CALL)
        vcpu_retire(v, length);
    return true;
}
