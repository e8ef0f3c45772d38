/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Message passing: one vCPU does data = 1; flag = 1 and the other a = flag; b = data. That a = 1, b = 0 is allowed
 * by the architecture (hosts with a stronger order never show it) unless both have a DMB between: then it is
 * forbidden. The parameter is the number of runs by pair, rounded up to full batches; `met` counts the runs that
 * both began at the same moment.
 */
#include "litmus.h"
#include "mmu.h"
#include "sync.h"

#define RUNS 200000u

static struct pair {
    struct lone_word ready[2], position[2];
    uint32_t outcomes[4] ALIGNED(128);
    uint32_t met;
} pairs[MAX_PAIRS];
static struct {
    struct lone_word data, flag;
} cells[MAX_PAIRS][CELLS] NOINIT;
static uint32_t batches;
static bool fenced;

static inline __attribute__((always_inline)) void play_side(unsigned number, unsigned side, bool fence)
{
    struct pair *pair = &pairs[number];
    uint32_t flag, data, met = 0;

    for (uint32_t batch = 1; batch <= batches; batch++) {
        bool together = false;

        meet(&pair->ready[side].value, &pair->ready[!side].value, batch);
        for (unsigned cell = 0; cell < CELLS; cell++) {
            if (together || cell % CELLS_APART == 0)
                together = meet_briefly(&pair->position[side].value, &pair->position[!side].value,
                                        batch * CELLS + cell);
            stagger(side, cell);
            if (side == 0) {
                cells[number][cell].data.value = batch;
                if (fence)
                    dmb();
                cells[number][cell].flag.value = batch;
                continue;
            }
            flag = cells[number][cell].flag.value;
            if (fence)
                dmb();
            data = cells[number][cell].data.value;
            pair->outcomes[(flag == batch) << 1 | (data == batch)]++;
            met += together;
        }
    }
    if (side == 1)
        pair->met = met;
}

static void play(unsigned id)
{
    if (id / 2 >= pair_count())
        return;
    if (fenced)
        play_side(id / 2, id & 1, true);
    else
        play_side(id / 2, id & 1, false);
}

/* Returns how often the flag came before the data. */
static uint32_t run_variant(bool fence)
{
    uint32_t sums[4] = { 0 }, met = 0;

    fenced = fence;
    for (unsigned number = 0; number < pair_count(); number++) {
        struct pair *pair = &pairs[number];

        for (unsigned side = 0; side < 2; side++)
            pair->ready[side].value = pair->position[side].value = 0;
        for (unsigned cell = 0; cell < CELLS; cell++)
            cells[number][cell].data.value = cells[number][cell].flag.value = 0;
        for (unsigned outcome = 0; outcome < 4; outcome++)
            pair->outcomes[outcome] = 0;
    }
    on_all_vcpus(play);
    for (unsigned number = 0; number < pair_count(); number++) {
        for (unsigned outcome = 0; outcome < 4; outcome++)
            sums[outcome] += pairs[number].outcomes[outcome];
        met += pairs[number].met;
    }
    print("result: guest=mp fence=%s pairs=%u runs=%u met=%u o00=%u o01=%u o10=%u o11=%u\n", fence ? "dmb" : "none",
          pair_count(), batches * CELLS * pair_count(), met, sums[0], sums[1], sums[2], sums[3]);
    return sums[2];
}

int main(void)
{
    batches = (testdev_parameter(RUNS) + CELLS - 1) / CELLS;
    mmu_enable();
    run_variant(false);
    return run_variant(true) != 0;
}
