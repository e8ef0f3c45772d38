/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_TIMERS_H
#define ALLSTOP_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

enum { TIMER_PHYSICAL, TIMER_VIRTUAL, TIMERS };

struct generic_timer {
    uint64_t compare; /* CVAL; CNTVOFF is 0, so that both timers count alike */
    uint64_t control; /* CTL without ISTATUS */
};

void timers_open(struct vcpu *v);
void timers_close(struct vcpu *v);
void timers_reset(struct vcpu *v);
void timers_update(struct vcpu *v);
bool timers_have_news(const struct vcpu *v); /* the interrupt controller was told other levels */

#endif
