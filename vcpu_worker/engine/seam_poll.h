/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_SEAM_POLL_H
#define ALLSTOP_SEAM_POLL_H

#include <stdbool.h>
#include <stdint.h>

/* Blocks that are translated from now on look at this word themselves; NULL: they call. */
void seam_poll_attach(_Atomic uint32_t *request_word);

/* A block's translation starts. Where `inlined` is false it calls in any case, as budgets and breakpoints need it. */
void seam_poll_block_starts(bool inlined);

#endif
