/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of CP15 that the engine reads and writes itself. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_ARM_REGISTERS_H
#define ALLSTOP_ENGINE_INTERPOSE_ARM_REGISTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "vcpu_worker/engine/interpose/arm/description.h"

struct interpose;

/* From now on the register with this key is read and written by these, which find `context` in the description's
 * `opaque`. The library has to know the register. False when there are too many. */
bool interpose_define_register(struct interpose *s, uint32_t key, register_read *read, register_write *write,
                               void *context);

/* For interpose/: the description that the translator gets in place of the library's. */
const void *registers_find(struct interpose *s, uint32_t key, const void *theirs);

/* For interpose/: where in its CPU state the library keeps a non-secure register; 0 where it does not know it. */
intptr_t registers_field(const struct interpose *s, uint32_t key);

#endif
