/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/run/arm/undefined.h"

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/run/arm/instruction.h"

void vcpu_note_undefined(struct vcpu *v, uint32_t cpsr)
{
    uint32_t word;
    bool thumb = cpsr & PSR_T;
    if (vcpu_peek(v, v->pc, thumb, is_privileged(cpsr), &word) != 4 || (thumb ? word >> 28 != 14 : word >> 28 == 15))
        return;
    uint32_t access;
    if ((word & 0x0f000e10) == 0x0e000e10) /* MCR, MRC of cp14 or cp15; without condition and register */
        access = word & 0x0fff0fff;
    else if ((word & 0x0fe00e00) == 0x0c400e00) /* MCRR, MRRC */
        access = word & 0x0ff00fff;
    else
        return;
    cp_count(v->slot, CP_COUNT_UNDEFINED);
    cp_note_undefined(v->slot, access);
}
