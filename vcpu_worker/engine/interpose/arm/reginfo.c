/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The description by which the translator translates an access to CP14 or CP15: the library's, or one of ours.
 *
 * Instruction cache maintenance, a no-op in the library, is translated as TLB maintenance is: HCR.TTLB makes it trap,
 * with the syndrome of the instruction that it is.
 */
#include "vcpu_worker/engine/interpose/arm/coprocessors.h"
#include "vcpu_worker/engine/interpose/arm/registers.h"
#include "vcpu_worker/engine/interpose/state.h"

#define TLBIMVA CP15_REGISTER(8, 7, 0, 1)

static bool is_instruction_cache_maintenance(uint32_t key)
{
    return key == CP15_REGISTER(7, 5, 0, 0)  /* ICIALLU */
        || key == CP15_REGISTER(7, 5, 0, 1)  /* ICIMVAU */
        || key == CP15_REGISTER(7, 1, 0, 0); /* ICIALLUIS */
}

INTERPOSED const void *get_arm_cp_reginfo_arm(void *table, uint32_t key)
{
    struct interpose *s = interpose_current;
    if (s->coprocessors == NULL) /* no engine of ours */
        return real.reginfo(table, key);
    s->registers_table = table;
    if (interpose_changes(s) && is_instruction_cache_maintenance(key & ~KEY_NON_SECURE))
        key = (key & KEY_NON_SECURE) | TLBIMVA;
    const void *theirs = registers_find(s, key, real.reginfo(table, key));
    return interpose_changes(s) ? coprocessors_find(s->coprocessors, key, theirs) : theirs;
}
