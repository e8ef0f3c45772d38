/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The level-3 entries of stage 2, and what their bits mean to us. An entry that is neither 0 (never used) nor VALID nor
 * SWAPPED is broken: a process changes it, or the page, and all others wait.
 *
 * With several hosts the entry is also the page's state on this one: 0 says that the page is not here; OWNED that it
 * is on no other host, so that it may be written to (OWNED alone: not yet used here); VALID without OWNED that other
 * hosts may have it, too, and that no host may write to it. */
#ifndef ALLSTOP_STAGE2_ENTRY_H
#define ALLSTOP_STAGE2_ENTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RAM_BASE 0x40000000u
#define STAGE2_PAGES_OFFSET 0x5000u /* level 3 follows one level-1 page and four level-2 pages */

#define VALID 1ull
#define READ_ONLY (1ull << 6)
#define READ_WRITE (3ull << 6)
#define ACCESS_MASK (3ull << 6)
#define XN (1ull << 54)
#define ATTRIBUTES (1ull << 10 | 3ull << 8 | 0xfull << 2 | 3ull) /* AF, inner shareable, normal memory, page */
#define OWNED (1ull << 52) /* the architecture's hint "contiguous", which the engine does not look at */
#define TOGGLE_SHIFT 55    /* bits 60:55, ignored by the walk, count W^X toggles */
#define TOGGLE_MASK (63ull << TOGGLE_SHIFT)
#define MAX_TOGGLES 48u
#define BROKEN (1ull << 61)
#define WANTED (1ull << 63)  /* of a broken entry: a vCPU in an exit, or a device, needs the page to go on */
#define SWAPPED (1ull << 62) /* the page is in the swap file */

/* Guest RAM as a process that is no vCPU's sees it too. */
struct guest_pages {
    unsigned char *ram;
    uint64_t ram_bytes;
    _Atomic uint64_t *stage2; /* the whole table file */
    int swap_fd;              /* -1: nothing can be swapped out */
};

/* Whether the page was never used on this host, and may be; with `hosts` of more than one. */
static inline bool page_is_fresh(uint64_t entry, bool hosts)
{
    return entry == (hosts ? OWNED : 0);
}

/* Whether the page is another host's as far as this access goes. */
static inline bool page_is_away(uint64_t entry, bool write)
{
    return entry == 0 || (write && (entry & VALID) && !(entry & OWNED));
}

static inline _Atomic uint64_t *page_entry(const struct guest_pages *g, uint32_t ipa)
{
    return g->stage2 + STAGE2_PAGES_OFFSET / 8 + ((ipa - RAM_BASE) >> 12);
}

#endif
