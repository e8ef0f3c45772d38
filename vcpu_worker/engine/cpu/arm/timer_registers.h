/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_CPU_ARM_TIMER_REGISTERS_H
#define ALLSTOP_ENGINE_CPU_ARM_TIMER_REGISTERS_H

#include "vcpu_worker/engine/vcpu.h"

/* The registers of the generic timer are ours from now on. */
void timer_registers_define(struct vcpu *v);

#endif
