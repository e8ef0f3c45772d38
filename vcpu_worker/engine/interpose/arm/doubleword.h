/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDRD into its own base. The library loads the first word before it tries the second: where only the second faults,
 * it would start again from a base that the first has overwritten. So access.c has the second word tried first. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_ARM_DOUBLEWORD_H
#define ALLSTOP_ENGINE_INTERPOSE_ARM_DOUBLEWORD_H

#include <stdbool.h>
#include <stdint.h>

/* LDRD without writeback whose first destination is its base. A8.8.72 (ARM DDI 0406C). */
static inline bool loads_its_base_first(uint32_t word, bool thumb)
{
    uint32_t base = word >> 16 & 15, first = word >> 12 & 15;
    if (base != first)
        return false;
    return thumb ? (word & 0xff700000) == 0xe9500000 : word >> 28 != 15 && (word & 0x0f3000f0) == 0x010000d0;
}

#endif
