/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Store buffering: one vCPU does x = 1; a = y and the other y = 1; b = x. That a = b = 0 is allowed, and seen on
 * real machines, unless a DMB (also ARMv6's) is between: then it is forbidden. The parameter is the number of runs by pair; it
 * is rounded up to full batches. `met` counts the runs that both began at the same moment: where it is low, the
 * host had no core for each vCPU and the counts say little.
 */
#include "litmus.h"
#include "mmu.h"
#include "sync.h"

#define RUNS 200000u

static struct pair {
    struct lone_word ready[2], position[2];
    uint32_t outcomes[4], met;
    uint8_t loaded_new[2][2][CELLS] ALIGNED(128); /* of even and odd batches: one is tallied, one is being made */
} pairs[MAX_PAIRS];
static struct {
    struct lone_word shared[2]; /* x and y */
} cells[MAX_PAIRS][CELLS] NOINIT;
static uint32_t batches;
enum fence { NONE, DMB, CP15DMB };
static enum fence chosen;
static const char *const names[] = { "none", "dmb", "cp15dmb" };

static void tally(struct pair *pair, uint32_t batch)
{
    uint8_t (*loaded_new)[CELLS] = pair->loaded_new[batch % 2];

    for (unsigned cell = 0; cell < CELLS; cell++)
        pair->outcomes[loaded_new[0][cell] << 1 | loaded_new[1][cell]]++;
}

static inline __attribute__((always_inline)) void play_side(unsigned number, unsigned side, enum fence fence)
{
    struct pair *pair = &pairs[number];
    uint32_t met = 0;

    for (uint32_t batch = 1; batch <= batches; batch++) {
        bool together = false;

        meet(&pair->ready[side].value, &pair->ready[!side].value, batch);
        if (side == 0 && batch > 1)
            tally(pair, batch - 1);
        for (unsigned cell = 0; cell < CELLS; cell++) {
            volatile uint32_t *mine = &cells[number][cell].shared[side].value;
            volatile uint32_t *other = &cells[number][cell].shared[!side].value;

            if (together || cell % CELLS_APART == 0)
                together = meet_briefly(&pair->position[side].value, &pair->position[!side].value,
                                        batch * CELLS + cell);
            stagger(side, cell);
            *mine = batch;
            if (fence == DMB)
                dmb();
            if (fence == CP15DMB)
                CP15_WRITE(0, c7, c10, 5, 0);
            uint32_t loaded = *other;
            pair->loaded_new[batch % 2][side][cell] = loaded == batch;
            met += together;
        }
    }
    meet(&pair->ready[side].value, &pair->ready[!side].value, batches + 1);
    if (side == 0) {
        tally(pair, batches);
        pair->met = met;
    }
}

static void play(unsigned id)
{
    if (id / 2 >= pair_count())
        return;
    if (chosen == DMB)
        play_side(id / 2, id & 1, DMB);
    else if (chosen == CP15DMB)
        play_side(id / 2, id & 1, CP15DMB);
    else
        play_side(id / 2, id & 1, NONE);
}

/* Returns how often both loads missed the other's store. */
static uint32_t run_variant(enum fence fence)
{
    uint32_t sums[4] = { 0 }, met = 0;

    chosen = fence;
    for (unsigned number = 0; number < pair_count(); number++) {
        struct pair *pair = &pairs[number];

        for (unsigned side = 0; side < 2; side++)
            pair->ready[side].value = pair->position[side].value = 0;
        for (unsigned cell = 0; cell < CELLS; cell++)
            cells[number][cell].shared[0].value = cells[number][cell].shared[1].value = 0;
        for (unsigned outcome = 0; outcome < 4; outcome++)
            pair->outcomes[outcome] = 0;
    }
    on_all_vcpus(play);
    for (unsigned number = 0; number < pair_count(); number++) {
        for (unsigned outcome = 0; outcome < 4; outcome++)
            sums[outcome] += pairs[number].outcomes[outcome];
        met += pairs[number].met;
    }
    print("result: guest=sb fence=%s pairs=%u runs=%u met=%u o00=%u o01=%u o10=%u o11=%u\n", names[fence],
          pair_count(), batches * CELLS * pair_count(), met, sums[0], sums[1], sums[2], sums[3]);
    return sums[0];
}

int main(void)
{
    batches = (testdev_parameter(RUNS) + CELLS - 1) / CELLS;
    mmu_enable();
    run_variant(NONE);
    uint32_t seen = run_variant(DMB);
    return seen + run_variant(CP15DMB) != 0;
}
