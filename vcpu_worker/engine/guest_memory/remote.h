/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_REMOTE_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_REMOTE_H

#include "vcpu_worker/engine/vcpu.h"

/* Have another host's page here, to read or to write, or find that the run is over. It may be gone again at once. */
void stage2_want(struct vcpu *v, uint32_t ipa, bool write, bool execute);

#endif
