/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watchpoints on data, for debuggers. To be changed between runs only. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_WATCH_H
#define ALLSTOP_ENGINE_INTERPOSE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "vcpu_worker/engine/interpose/contract.h"

struct interpose;

/* Stop before an access to one of these, INTERPOSE_WATCHPOINTS at most. Device memory is never seen: it has no
 * translation here. */
void interpose_set_watchpoints(struct interpose *s, const struct watchpoint *wanted, unsigned n);
/* Watchpoints and breakpoints, for the instruction that stopped at one. */
void interpose_suspend_stops(struct interpose *s, bool yes);
/* The last run stopped before an access to `address`, the first watched byte of it. */
bool interpose_is_at_watchpoint(struct interpose *s, uint32_t *address, bool *is_write);

#endif
