/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watchpoints on data: the part of the seam that debuggers use. */
#ifndef ALLSTOP_SEAM_WATCH_H
#define ALLSTOP_SEAM_WATCH_H

#include "seam.h"

#define SEAM_WATCHPOINTS 16u
enum { SEAM_WATCH_READ = 1, SEAM_WATCH_WRITE = 2 }; /* QEMU's BP_MEM_READ, BP_MEM_WRITE */

struct seam_watchpoint {
    uint32_t address, bytes; /* virtual */
    unsigned kinds;          /* SEAM_WATCH_READ | SEAM_WATCH_WRITE */
};

void seam_watch_attach(uc_engine *engine);
/* Stop before an access to one of these, between runs only. Device memory is never seen: it has no translation here. */
void seam_set_watchpoints(const struct seam_watchpoint *wanted, unsigned n);
void seam_suspend_stops(bool yes); /* watchpoints and breakpoints, for the instruction that stopped at one */
bool seam_stops_suspended(void);
/* The run that is over stopped at one: which address, the first one that is watched, is about to be accessed how. */
bool seam_is_at_watchpoint(uint32_t *address, bool *is_write);

/* seam.c's: the CPU that holds the state `env`, as the library passes it. */
void *seam_cpu(void *env);

#endif
