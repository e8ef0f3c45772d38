/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_INTERPOSE_POLL_H
#define ALLSTOP_ENGINE_INTERPOSE_POLL_H

#include <stdbool.h>
#include <stdint.h>

struct interpose;

/* A block's translation starts. Where `inlined` is false it calls in any case, as budgets and breakpoints need it. */
void poll_block_starts(struct interpose *s, bool inlined);

/* The library's function that each block calls at its start; interpose.c defines it. */
void helper_check_exit_request_arm(void *of, uint32_t in_delay_slot);

#endif
