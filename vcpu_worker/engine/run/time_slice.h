/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_TIME_SLICE_H
#define ALLSTOP_ENGINE_RUN_TIME_SLICE_H

#include "vcpu_worker/engine/vcpu.h"

bool time_slice_open(struct vcpu *v); /* false with errno set */
void time_slice_close(struct vcpu *v);
void time_slice_begin(struct vcpu *v); /* the vCPU is about to enter */
void time_slice_give(struct vcpu *v);  /* its slice is over: it says that it waits */

#endif
