/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_WAIT_H
#define ALLSTOP_ENGINE_RUN_WAIT_H

#include "vcpu_worker/engine/vcpu.h"

/* Sleep as WFI does; EVENT, QUIT and TICK end the sleep too. */
void vcpu_wait_for_interrupt(struct vcpu *v);

#endif
