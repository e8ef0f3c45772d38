/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_ARM_SEMIHOSTING_H
#define ALLSTOP_ENGINE_RUN_ARM_SEMIHOSTING_H

#include "vcpu_worker/engine/vcpu.h"

/* Before an exception is taken, by the library's number: whether its instruction is a call to the host. Then PC is
 * after it. */
bool vcpu_calls_host(struct vcpu *v, uint32_t exception);

#endif
