/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ARMCPRegInfo of the library, what it says of a register of CP14 or CP15: helper_get_cp_reg_arm() and
 * helper_set_cp_reg_arm() show `read` and `write`, helper_access_check_cp_reg_arm() `check`, read_raw_cp_reg_arm() the
 * type, reset value and field. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_ARM_DESCRIPTION_H
#define ALLSTOP_ENGINE_INTERPOSE_ARM_DESCRIPTION_H

#include <stdint.h>

/* Called from translated code; the arguments are the library's: the CPU's state, and the register's description. */
struct register_description;
typedef uint64_t register_read(void *env, const struct register_description *of);
typedef void register_write(void *env, const struct register_description *of, uint64_t value);

struct register_description {
    const char *name;
    uint8_t cp, crn, crm, opc0, opc1, opc2;
    int32_t state, type, access, secure;
    void *opaque; /* the library does not look at it: in descriptions of ours, what `read` and `write` work on */
    uint64_t reset_value;
    intptr_t field, fields[2]; /* in the CPU's state */
    void *check;
    register_read *read;
    register_write *write;
    void *rest[5]; /* raw_readfn, raw_writefn, resetfn, orig_readfn, orig_writefn */
};
_Static_assert(sizeof(struct register_description) == 136, "ARMCPRegInfo");

/* The library's keys of a 32-bit register and of a 64-bit one. */
#define REGISTER_KEY(cp, crn, crm, opc1, opc2) ((uint32_t)(cp) << 16 | (crn) << 11 | (crm) << 7 | (opc1) << 3 | (opc2))
#define CP15_REGISTER(crn, crm, opc1, opc2) REGISTER_KEY(15, crn, crm, opc1, opc2)
#define CP15_REGISTER_64(crm, opc1) (1u << 15 | REGISTER_KEY(15, 0, crm, opc1, 0))
#define KEY_NON_SECURE (1u << 29) /* the bank */

#endif
