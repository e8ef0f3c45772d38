/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the translator reads, kept by block, so that an instruction is known as it was executed. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_READING_H
#define ALLSTOP_ENGINE_INTERPOSE_READING_H

#include <stdbool.h>
#include <stdint.h>

struct interpose;
struct reading;

/* The instruction at `pc` as it was translated in the block whose state was restored last. Returns its length in bytes
 * (2 or 4), with the first halfword of a wide Thumb instruction in the upper half; 0 when it is not known. */
unsigned interpose_executed(const struct interpose *s, uint32_t pc, bool thumb, uint32_t *word);

/* For interpose/: a block that starts at `pc` is about to be translated. It may never end: the next one starts over. */
void reading_begin(struct reading *r, uint32_t pc);
/* The translator read one or two halfwords at `address`. Outside a block this does nothing. */
void reading_note(struct reading *r, uint32_t address, uint32_t value, unsigned halfwords);
/* The block is translated: keep what was read under `key`. */
void reading_end(struct reading *r, const void *key);
/* The instruction that is being translated. True for the first load that it makes, and for that one only. */
bool reading_first_load(struct reading *r, uint32_t *word, bool *thumb);
/* The state of the block `key` was restored: interpose_executed() is about this one. NULL: of none. */
void reading_restored(struct reading *r, const void *key);
/* All blocks are gone. */
void reading_forget(struct reading *r);

#endif
