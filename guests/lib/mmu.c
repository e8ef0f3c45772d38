/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mmu.h"

#define MIB 0x100000u

#define SECTION 2u
#define SECTION_XN (1u << 4)
#define SECTION_AP_USER (3u << 10)
#define SECTION_NORMAL ((1u << 2) | (1u << 3) | (1u << 12) | (1u << 16)) /* write-back, allocating, shareable */
#define SECTION_UNCACHED ((1u << 12) | (1u << 16))
#define SECTION_DEVICE (1u << 2)
#define TABLE 1u
#define SMALL_PAGE 2u

#define TTBR_WALKS 0x4au /* walks are inner and outer write-back, allocating, shareable */
#define SCTLR_M (1u << 0)
#define SCTLR_A (1u << 1)
#define SCTLR_C (1u << 2)
#define SCTLR_SW (1u << 10)
#define SCTLR_Z (1u << 11)
#define SCTLR_I (1u << 12)

#define DEVICES_BASE 0x08000000u
#define DEVICES_END 0x0c000000u

static uint32_t level1[4096] ALIGNED(16384);
static uint32_t window_table[WINDOW_PAGES] ALIGNED(1024);
static bool ready;

static void turn_on(void)
{
    uint32_t sctlr = CP15_READ(0, c1, c0, 0);

    CP15_WRITE(0, c7, c5, 0, 0); /* ICIALLU */
    CP15_WRITE(0, c8, c7, 0, 0); /* TLBIALL */
    CP15_WRITE(0, c2, c0, 2, 0); /* TTBCR: short descriptors, TTBR0 only */
    CP15_WRITE(0, c2, c0, 0, (uint32_t)level1 | TTBR_WALKS);
    CP15_WRITE(0, c3, c0, 0, 1); /* DACR: domain 0 checks permissions */
    CP15_WRITE(0, c13, c0, 1, 0); /* CONTEXTIDR: ASID 0 */
    dsb();
    isb();
    CP15_WRITE(0, c1, c0, 0, (sctlr & ~SCTLR_A) | SCTLR_M | SCTLR_C | SCTLR_I | SCTLR_Z | SCTLR_SW);
    isb();
}

void mmu_enable(void)
{
    for (uint32_t address = DEVICES_BASE; address < DEVICES_END; address += MIB)
        level1[address / MIB] = address | SECTION | SECTION_DEVICE | SECTION_XN | SECTION_AP_USER;
    for (uint32_t address = RAM_BASE; address < RAM_BASE + RAM_BYTES; address += MIB)
        level1[address / MIB] = address | SECTION | SECTION_NORMAL | SECTION_AP_USER;
    level1[WINDOW_BASE / MIB] = (uint32_t)window_table | TABLE;
    dsb();
    turn_on();
    ready = true;
}

void mmu_enable_if_ready(void)
{
    if (ready)
        turn_on();
}

void mmu_map_uncached(uint32_t address)
{
    level1[address / MIB] = (address & ~(MIB - 1)) | SECTION | SECTION_UNCACHED | SECTION_XN | SECTION_AP_USER;
    tlb_invalidate_page(address);
}

void window_map(unsigned page, const void *frame, uint32_t attributes)
{
    *(volatile uint32_t *)&window_table[page] = (uint32_t)frame | SMALL_PAGE | attributes;
}

void window_unmap(unsigned page) { *(volatile uint32_t *)&window_table[page] = 0; }

#define CACHE_LINE_BYTES 64u /* Cortex-A15, both caches */

void code_publish(const void *address, size_t bytes)
{
    uint32_t first = (uint32_t)address & ~(CACHE_LINE_BYTES - 1), end = (uint32_t)address + bytes;

    for (uint32_t line = first; line < end; line += CACHE_LINE_BYTES)
        CP15_WRITE(0, c7, c11, 1, line); /* DCCMVAU */
    dsb();
    for (uint32_t line = first; line < end; line += CACHE_LINE_BYTES)
        CP15_WRITE(0, c7, c5, 1, line); /* ICIMVAU */
    CP15_WRITE(0, c7, c1, 6, 0); /* BPIALLIS */
    dsb();
    isb();
}
