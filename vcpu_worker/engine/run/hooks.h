/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the library and interpose/ call in the middle of a run. */
#ifndef ALLSTOP_ENGINE_RUN_HOOKS_H
#define ALLSTOP_ENGINE_RUN_HOOKS_H

#include "vcpu_worker/engine/interpose/contract.h"
#include "vcpu_worker/engine/vcpu.h"

extern const struct interpose_events hooks_events __attribute__((visibility("hidden")));
const void *hooks_memory(void *vcpu, uint32_t ipa, int *allowed);

/* The library's hooks of exceptions and of instructions that it does not know. */
bool hooks_install(struct vcpu *v);

#endif
