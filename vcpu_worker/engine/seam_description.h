/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ARMCPRegInfo of the library, what it says of a register of CP14 or CP15: helper_get_cp_reg_arm() and helper_set_cp_reg_arm()
 * show `read` and `write`, helper_access_check_cp_reg_arm() `check`, read_raw_cp_reg_arm() the type, reset value and field. */
#ifndef ALLSTOP_SEAM_DESCRIPTION_H
#define ALLSTOP_SEAM_DESCRIPTION_H

#include <stdint.h>

#include "seam_registers.h"

struct seam_description {
    const char *name;
    uint8_t cp, crn, crm, opc0, opc1, opc2;
    int32_t state, type, access, secure;
    void *opaque;
    uint64_t reset_value;
    intptr_t field, fields[2]; /* in the CPU's state */
    void *check;
    seam_register_read *read;
    seam_register_write *write;
    void *rest[6];
};
_Static_assert(sizeof(struct seam_description) == 144, "ARMCPRegInfo");

#define NON_SECURE (1u << 29) /* of a register's key: the bank */

#endif
