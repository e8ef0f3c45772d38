/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a run stops before an instruction: an instruction budget, and breakpoints. To be changed between runs only. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_STOPS_H
#define ALLSTOP_ENGINE_INTERPOSE_STOPS_H

#include <stdbool.h>
#include <stdint.h>

struct interpose;

/* Of the runs that follow: 0 is no budget. With one, a block is one instruction, so that the budget is exact, in IT
 * blocks too. A change from none to some or back drops all translations. */
void interpose_set_budget(struct interpose *s, uint64_t instructions);
uint64_t interpose_budget_left(const struct interpose *s);
bool interpose_budget_is_spent(const struct interpose *s);
void interpose_count(struct interpose *s);   /* an instruction that could not be fetched is over, too */
void interpose_uncount(struct interpose *s); /* the instruction counted last has trapped, and was not executed */

/* Stop before the instructions at these virtual addresses, INTERPOSE_BREAKPOINTS at most. The instruction that stopped
 * a run is executed when the next run gets there. */
void interpose_set_breakpoints(struct interpose *s, const uint32_t *addresses, unsigned n);
bool interpose_is_at_breakpoint(struct interpose *s); /* the last run stopped at one */

/* For interpose/: how many instructions a block from `pc` on may have, at most `longest`. */
int stops_longest_block(const struct interpose *s, uint32_t pc, int longest);
/* Whether the block that calls from `host_pc` starts at a breakpoint at which the run stops now. */
bool stops_hits(struct interpose *s, uintptr_t host_pc);

#endif
