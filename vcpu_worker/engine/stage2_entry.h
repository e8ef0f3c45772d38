/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The level-3 entries of stage 2, and what their bits mean to us. An entry that is neither 0 (never used) nor VALID nor
 * SWAPPED is broken: somebody changes it, and everybody else waits. */
#ifndef ALLSTOP_STAGE2_ENTRY_H
#define ALLSTOP_STAGE2_ENTRY_H

#include "vcpu.h"

#define VALID 1ull
#define READ_ONLY (1ull << 6)
#define READ_WRITE (3ull << 6)
#define ACCESS_MASK (3ull << 6)
#define XN (1ull << 54)
#define ATTRIBUTES (1ull << 10 | 3ull << 8 | 0xfull << 2 | 3ull) /* AF, inner shareable, normal memory, page */
#define FLIP_SHIFT 55         /* bits 60:55, ignored by the walk, count flips */
#define FLIP_MASK (63ull << FLIP_SHIFT)
#define FLIPS 48u
#define BROKEN (1ull << 61)
#define WANTED (1ull << 63)   /* of a broken entry: a vCPU needs the page to end its exit */
#define SWAPPED (1ull << 62)  /* the page is in the swap file; machine/stage2.py knows this bit, too */

static inline _Atomic uint64_t *entry_of(struct vcpu *v, uint32_t ipa)
{
    return v->stage2 + STAGE2_PAGES_OFFSET / 8 + ((ipa - RAM_BASE) >> 12);
}

#endif
