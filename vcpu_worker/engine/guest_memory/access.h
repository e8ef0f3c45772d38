/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_ACCESS_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_ACCESS_H

#include "vcpu_worker/engine/vcpu.h"

/* Translate by the guest's stage 1. False where it faults, with the status in `fault_lpae` and `fault_short`. */
bool vcpu_translate(struct vcpu *v, uint32_t gva, bool write, bool privileged, uint32_t *ipa);

/* What memory holds now; false where it cannot be read without a change of stage 2. Allowed in a run. */
bool vcpu_peek_halfword(struct vcpu *v, uint32_t gva, bool privileged, uint16_t *halfword);

/* False outside RAM. Translated code of these pages is dropped everywhere. */
bool vcpu_write_ram(struct vcpu *v, uint32_t ipa, const void *data, size_t bytes);

#endif
