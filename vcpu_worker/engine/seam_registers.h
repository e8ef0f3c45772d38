/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For the engine: registers of CP15 whose reading and writing is its own. */
#ifndef ALLSTOP_SEAM_REGISTERS_H
#define ALLSTOP_SEAM_REGISTERS_H

#include <stdbool.h>
#include <stdint.h>

/* Called from translated code; the arguments are the library's: the CPU's state, and what it says of the register. */
struct seam_description;
typedef uint64_t seam_register_read(void *env, const struct seam_description *of);
typedef void seam_register_write(void *env, const struct seam_description *of, uint64_t value);

/* The library's keys of a 32-bit register and of a 64-bit one. */
#define SEAM_REGISTER(crn, crm, opc1, opc2) (15u << 16 | (crn) << 11 | (crm) << 7 | (opc1) << 3 | (opc2))
#define SEAM_REGISTER_64(crm, opc1) (15u << 16 | 1u << 15 | (crm) << 7 | (opc1) << 3)

/* From now on the register with this key is read and written by these. The library has to know it. False when there are too
 * many. */
bool seam_define_register(uint32_t key, seam_register_read *read, seam_register_write *write);
void seam_registers_forget(void);

/* For the seam: what the translator is given in place of the library's own description. */
const void *seam_registers_find(uint32_t key, const void *theirs);

/* For the seam: where in its CPU state the library keeps a non-secure register; 0 where it does not know it. */
intptr_t seam_register_field(void *table, uint32_t key);

#endif
