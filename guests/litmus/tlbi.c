/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Remapping under a running reader. One vCPU of each pair reads a page without pause; the other moves the page
 * from frame to frame, break before make, and spoils the old frame as soon as TLBIMVAIS and DSB are done. The reader
 * must never see spoiled content, never an older generation than one that was announced before it read, and never a
 * fault while nothing is being moved. Each generation is read at least once. The parameter is the number of moves by pair.
 */
#include "litmus.h"
#include "mmu.h"
#include "sync.h"

#define MOVES 1000u
#define ATTRIBUTES (PAGE_NORMAL | PAGE_AP_PRIVILEGED | PAGE_XN)
#define SPOILED 0xdead0000u

static uint32_t frames[MAX_PAIRS][2][1024] ALIGNED(4096) NOINIT;
static struct pair {
    uint32_t begun ALIGNED(64);     /* generation that is being mapped */
    uint32_t announced ALIGNED(64); /* generation that is mapped everywhere */
    uint32_t seen ALIGNED(64);      /* generation announced before the reader's last read that did not fault */
    uint32_t reads, faults, stale, spoiled, bad_faults;
} pairs[MAX_PAIRS];
static uint32_t moves;

/* Move page `number` of the window to the frame of `generation`. */
static void move(unsigned number, uint32_t generation)
{
    struct pair *pair = &pairs[number];
    volatile uint32_t *old = frames[number][(generation - 1) % 2], *new = frames[number][generation % 2];
    unsigned word = number * 16;

    store_release(&pair->begun, generation);
    new[word] = generation;
    dmb();
    window_unmap(number);
    tlb_invalidate_page(window_page(number));
    old[word] = SPOILED;
    window_map(number, (void *)new, ATTRIBUTES);
    dsb();
    store_release(&pair->announced, generation);
}

static void read_on(unsigned number)
{
    struct pair *pair = &pairs[number];
    volatile uint32_t *page = (volatile uint32_t *)window_page(number) + number * 16;
    uint32_t before, after, value = 0;

    do {
        before = load_acquire(&pair->announced);
        dmb();
        bool mapped = probe_read(page, &value);
        dmb();
        after = load_acquire(&pair->begun);
        /* What is read again and again may as well wait: the writer may need this core. */
        if (++pair->reads % 256 == 0)
            yield();
        if (!mapped) {
            pair->faults++;
            pair->bad_faults += before == after;
            continue;
        }
        if (value == SPOILED)
            pair->spoiled++;
        else
            pair->stale += value < before || value > after;
        store_release(&pair->seen, before);
    } while (before != moves);
}

static void play(unsigned id)
{
    unsigned number = id / 2;

    if (number >= pair_count())
        return;
    if (id & 1) {
        read_on(number);
        return;
    }
    for (uint32_t generation = 2; generation <= moves; generation++) {
        wait_for_run(&pairs[number].seen, generation - 1);
        move(number, generation);
    }
}

int main(void)
{
    struct pair sum = { 0 };

    moves = testdev_parameter(MOVES);
    exception_handlers[DATA_ABORT] = probe_data_abort;
    mmu_enable();
    for (unsigned number = 0; number < pair_count(); number++)
        move(number, 1);
    on_all_vcpus(play);
    for (unsigned number = 0; number < pair_count(); number++) {
        sum.reads += pairs[number].reads;
        sum.faults += pairs[number].faults;
        sum.stale += pairs[number].stale;
        sum.spoiled += pairs[number].spoiled;
        sum.bad_faults += pairs[number].bad_faults;
    }
    print("result: guest=tlbi pairs=%u moves=%u reads=%u faults=%u stale=%u spoiled=%u bad-faults=%u\n",
          pair_count(), moves * pair_count(), sum.reads, sum.faults, sum.stale, sum.spoiled, sum.bad_faults);
    return sum.stale || sum.spoiled || sum.bad_faults;
}
