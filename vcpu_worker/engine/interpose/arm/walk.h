/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_INTERPOSE_ARM_WALK_H
#define ALLSTOP_ENGINE_INTERPOSE_ARM_WALK_H

#include "vcpu_worker/engine/interpose/contract.h"

struct interpose;

/* Find the translations that the library needs in memory, by `memory`; the context is interpose_attach()'s. After the
 * first access to a register. */
void interpose_walk_in(struct interpose *s, interpose_memory *memory);

#endif
