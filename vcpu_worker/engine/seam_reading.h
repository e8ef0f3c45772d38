/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For seam*.c only: what the translator reads, kept by block, so that an instruction is known as it was executed. */
#ifndef ALLSTOP_SEAM_READING_H
#define ALLSTOP_SEAM_READING_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* A block that starts at `pc` is about to be translated. It may never end: the next one starts over. */
void seam_reading_begin(uint32_t pc);
/* The translator read one or two halfwords at `address`. Outside a block it does not matter. */
void seam_reading_note(uint32_t address, uint32_t value, unsigned halfwords);
/* The block is translated: keep what was read under `key`; NULL keeps nothing. */
void seam_reading_end(const void *key);
/* The instruction that is being translated. True for the first load that it makes, and for that one only. */
bool seam_reading_first_load(uint32_t *word, bool *thumb);
/* The state of the block `key` was restored: seam_executed() is about this one. NULL: of none. */
void seam_reading_restored(const void *key);
/* All blocks are gone. */
void seam_reading_forget(void);

#pragma GCC visibility pop

#endif
