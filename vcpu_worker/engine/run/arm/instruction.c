/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/run/arm/instruction.h"

#include "vcpu_worker/engine/guest_memory/access.h"

static bool is_wide(uint16_t first)
{
    return first >> 11 >= 0x1d;
}

unsigned vcpu_peek(struct vcpu *v, uint32_t gva, bool thumb, bool privileged, uint32_t *word)
{
    uint16_t first, second;
    if (!vcpu_peek_halfword(v, gva, privileged, &first))
        return 0;
    *word = first;
    if (thumb && !is_wide(first))
        return 2;
    if (!vcpu_peek_halfword(v, gva + 2, privileged, &second))
        return 0;
    *word = thumb ? (uint32_t)first << 16 | second : (uint32_t)second << 16 | first;
    return 4;
}
