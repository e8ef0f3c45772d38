/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages of code: swapped out and reused by swappers, brought in by them or by the page faults of others. */
#include "routines.h"
#include "mmu.h"
#include "sync.h"

#define FRAMES 3u    /* by page: one in use, and two that hold something else, or wait with the next version */
#define PATIENCE 64u /* swaps without a call between them */
#define LINGER 8192u /* turns of an empty loop, at most */
#define CODE_ATTRIBUTES (PAGE_NORMAL | PAGE_AP_USER)

/* In the last line of the one page, and the first of the other. */
static const uint32_t entries[KINDS] = { 0xfc0, 0xfd0, 0xffe };

static page frames[MAX_GROUPS][FRAMES][2] ALIGNED(4096) NOINIT;
static struct group {
    struct ticket_lock lock; /* of the entries, and of: */
    bool mapped[2];
    unsigned current;        /* the frames of the two pages, mapped or not */
    uint32_t random, swaps;
    uint32_t accessors ALIGNED(64); /* that have calls to make */
    uint32_t calls;                 /* made by all of them */
} ALIGNED(64) groups[MAX_GROUPS];

static unsigned code_page(unsigned number, unsigned half) { return 2 * number + half; }

static void bring_in(unsigned number, unsigned half)
{
    struct group *group = &groups[number];

    window_map(code_page(number, half), frames[number][group->current][half], CODE_ATTRIBUTES);
    group->mapped[half] = true;
    dsb();
}

/* Write `arm` and `thumb`, two words each, where one of the two pages has routines; the rest is unused. */
static void fill(page frame, unsigned half, const uint32_t *arm, const uint32_t *thumb)
{
    if (half == 0) {
        frame[entries[ARM] / 4] = arm[0];
        frame[entries[ARM] / 4 + 1] = arm[1];
        frame[entries[THUMB] / 4] = thumb[0];
        frame[entries[THUMB] / 4 + 1] = thumb[1];
        frame[entries[STRADDLING] / 4] = thumb[0] << 16;
    } else {
        frame[0] = thumb[0] >> 16 | thumb[1] << 16;
    }
}

/*
 * Let a random moment pass. An invalidation waits for vCPUs in the guest: a swapper that invalidates constantly does
 * little else, and finds accessors either not trapped yet or long emulated.
 */
static void linger(struct group *group)
{
    for (uint32_t turns = next_random(&group->random) % LINGER; turns; turns--)
        asm volatile("");
}

/*
 * The next version goes to the next frames while the pages are still in use; then, under the lock, each page is taken
 * away, and its frame reused as soon as the DSB says that no vCPU can fetch from it.
 */
void swap(unsigned number)
{
    struct group *group = &groups[number];
    unsigned old = group->current, new = (old + 1) % FRAMES, version = next_random(&group->random) >> 8;
    const uint32_t *arm_spoil = &arm_spoils[(group->random >> 12) % (SPOILS - 1)];
    const uint32_t *thumb_spoil = &thumb_spoils[(group->random >> 16) % (SPOILS - 1)];
    bool at_once = group->random >> 24 & 1;

    for (unsigned half = 0; half < 2; half++)
        fill(frames[number][new][half], half, arm_versions[version % VERSIONS], thumb_versions[version % VERSIONS]);
    code_publish((uint8_t *)frames[number][new][0] + entries[ARM], PAGE_BYTES - entries[ARM]);
    code_publish(frames[number][new][1], 4);
    linger(group);
    ticket_acquire(&group->lock);
    for (unsigned half = 0; half < 2; half++) {
        window_unmap(code_page(number, half));
        group->mapped[half] = false;
        tlb_invalidate_page(window_page(code_page(number, half)));
        fill(frames[number][old][half], half, arm_spoil, thumb_spoil);
    }
    CP15_WRITE(0, c7, c1, 6, 0); /* BPIALLIS: these addresses get other code */
    dsb();
    group->current = new;
    if (at_once)
        for (unsigned half = 0; half < 2; half++)
            bring_in(number, half);
    group->swaps++;
    ticket_release(&group->lock);
}

void paging_start(unsigned number, uint32_t seed)
{
    groups[number].random = seed | 1;
    swap(number);
}

/*
 * Swap for as long as there are calls to make. Pages that disappear faster than any vCPU can use them would keep a
 * machine that fetches slowly from ever making progress: wait for a call then, as a thrashing kernel does.
 */
void swap_on(unsigned number)
{
    struct group *group = &groups[number];
    uint32_t before = 0, in_vain = 0;

    while (load_acquire(&group->accessors)) {
        swap(number);
        uint32_t now = load_acquire(&group->calls);
        in_vain = now == before ? in_vain + 1 : 0;
        before = now;
        if (in_vain < PATIENCE)
            continue;
        while (load_acquire(&group->calls) == before && load_acquire(&group->accessors))
            yield();
    }
}

bool page_fault(uint32_t address)
{
    unsigned faulted = (address - WINDOW_BASE) / PAGE_BYTES, number = faulted / 2, half = faulted % 2;
    struct group *group = &groups[number];

    if (number >= MAX_GROUPS || !group->swaps)
        return false;
    ticket_acquire(&group->lock);
    /* The page may have come back meanwhile; but of an instruction across both, the other one may be meant. */
    if (group->mapped[half])
        half = !half;
    if (!group->mapped[half])
        bring_in(number, half);
    ticket_release(&group->lock);
    return true;
}

uint32_t routine_address(unsigned number, enum kind kind) { return window_page(code_page(number, 0)) + entries[kind]; }

uint32_t swap_count(unsigned number) { return groups[number].swaps; }

void accessor_joins(unsigned number) { groups[number].accessors++; }
void accessor_called(unsigned number) { exclusive_add(&groups[number].calls, 1); }
void accessor_leaves(unsigned number) { exclusive_add(&groups[number].accessors, -1u); }
