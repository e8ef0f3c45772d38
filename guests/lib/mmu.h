/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stage-1 translation with short descriptors (ARM DDI 0406, B3.5): RAM and the devices mapped flat with 1 MiB
 * sections, and one window of 4 KiB pages for guests that remap. One set of tables, shared by all vCPUs.
 */
#ifndef MMU_H
#define MMU_H

#include "guest.h"

#define PAGE_BYTES 4096u
#define WINDOW_BASE 0x70000000u
#define WINDOW_PAGES 256u

/* Attributes of a small page. */
#define PAGE_XN (1u << 0)
#define PAGE_NORMAL ((1u << 2) | (1u << 3) | (1u << 6) | (1u << 10)) /* write-back, allocating, shareable */
#define PAGE_AP_PRIVILEGED (1u << 4)
#define PAGE_AP_USER_READ (2u << 4)
#define PAGE_AP_USER (3u << 4)
#define PAGE_AP_READ_ONLY ((1u << 9) | (3u << 4))

/* Build the tables and turn the MMU and caches on; secondaries started afterwards do the same by themselves. */
void mmu_enable(void);
/* For vCPUs that start: turn the MMU on if the boot vCPU has. */
void mmu_enable_if_ready(void);

/* Map one MiB at `address` flat as normal, non-cached, shareable memory, user access allowed, never executed. */
void mmu_map_uncached(uint32_t address);

/* The address of a page of the window. */
static inline uint32_t window_page(unsigned page) { return WINDOW_BASE + page * PAGE_BYTES; }
/* Write a window page's descriptor; the caller invalidates and orders. A later walk by any vCPU may see it. */
void window_map(unsigned page, const void *frame, uint32_t attributes);
void window_unmap(unsigned page);

/* Invalidate one page's translation on all vCPUs (TLBIMVAIS, ASID 0) and wait until that is complete. */
static inline void tlb_invalidate_page(uint32_t address)
{
    dsb();
    CP15_WRITE(0, c8, c3, 1, address & ~(PAGE_BYTES - 1));
    dsb();
    isb();
}

/*
 * Read a word, or call an ARM function and take the word that it returns; false if the access faulted at once.
 * Need the handlers below to be called for aborts; those answer whether the abort was a probe's.
 */
bool probe_read(const volatile uint32_t *address, uint32_t *value);
bool probe_call(const void *function, uint32_t *value);
bool probe_data_abort(struct frame *frame);
bool probe_prefetch_abort(struct frame *frame);

/* Make instructions written at `address` the ones that every vCPU executes after its next ISB. */
void code_publish(const void *address, size_t bytes);

#endif
