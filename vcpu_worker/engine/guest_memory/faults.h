/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_GUEST_MEMORY_FAULTS_H
#define ALLSTOP_ENGINE_GUEST_MEMORY_FAULTS_H

#include "vcpu_worker/engine/vcpu.h"

/* Serve a stage-2 fault: true when the access may be tried again, false when `ipa` is not in RAM. */
bool stage2_fault(struct vcpu *v, uint32_t ipa, bool execute, bool write);

#endif
