/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The generic timer (ARM DDI 0406C, B8), without its registers' encodings: arm/timer_registers.c has those. */
#ifndef ALLSTOP_ENGINE_CPU_TIMERS_H
#define ALLSTOP_ENGINE_CPU_TIMERS_H

#include "vcpu_worker/engine/vcpu.h"

/* CTL */
#define TIMER_ENABLE 1u
#define TIMER_IMASK 2u
#define TIMER_ISTATUS 4u

void timers_open(struct vcpu *v);
void timers_close(struct vcpu *v);
void timers_reset(struct vcpu *v);   /* as after a reset: off */
void timers_update(struct vcpu *v);  /* compute the lines' levels, and set the host's timer for the next change */
void timers_written(struct vcpu *v); /* the guest has written to one of them */
bool timers_have_news(const struct vcpu *v); /* the interrupt controller was told other levels */

uint64_t timers_count(const struct vcpu *v);                                      /* the counter now */
uint64_t timers_control(const struct vcpu *v, const struct generic_timer *timer); /* CTL with ISTATUS */

#endif
