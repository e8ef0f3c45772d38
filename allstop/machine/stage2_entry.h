/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The level-3 entries of stage 2, and what their bits mean to us. An entry that is neither 0 (never used) nor VALID nor
 * SWAPPED is broken: somebody changes it, or the page, and everybody else waits. */
#ifndef ALLSTOP_STAGE2_ENTRY_H
#define ALLSTOP_STAGE2_ENTRY_H

#include <stdatomic.h>
#include <stdint.h>

#define RAM_BASE 0x40000000u
#define STAGE2_PAGES_OFFSET 0x5000u  /* level 3 follows one level-1 page and four level-2 pages */

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
#define WANTED (1ull << 63)   /* of a broken entry: somebody needs the page to get on, a vCPU in an exit or a device */
#define SWAPPED (1ull << 62)  /* the page is in the swap file; machine/stage2.py knows this bit, too */

/* Guest RAM as a process that is no vCPU's sees it too. */
struct guest_pages {
    unsigned char *ram;
    uint64_t ram_bytes;
    _Atomic uint64_t *stage2; /* the whole table file */
    int swap_fd;              /* -1: nothing can be swapped out */
};

static inline _Atomic uint64_t *page_entry(const struct guest_pages *g, uint32_t ipa)
{
    return g->stage2 + STAGE2_PAGES_OFFSET / 8 + ((ipa - RAM_BASE) >> 12);
}

#endif
