/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Store buffering: one vCPU does x = 1; a = y and the other y = 1; b = x. That a = b = 0 is allowed, and seen on
 * real machines, unless a DMB stands between: then it is forbidden. The parameter is the number of runs by pair.
 */
#include "litmus.h"
#include "mmu.h"
#include "sync.h"

#define RUNS 200000u

static struct pair {
    struct lone_word shared[2]; /* x and y */
    struct lone_word ready[2];
    struct lone_word loaded_new[2];
    uint32_t outcomes[4];
} pairs[MAX_PAIRS];

static uint32_t runs;
static bool fenced;

static inline __attribute__((always_inline)) void play_side(struct pair *pair, unsigned side, bool fence)
{
    volatile uint32_t *mine = &pair->shared[side].value, *other = &pair->shared[!side].value;

    for (uint32_t run = 1; run <= runs; run++) {
        meet(&pair->ready[side].value, &pair->ready[!side].value, 2 * run - 1);
        if (side == 0)
            stagger(run);
        *mine = run;
        if (fence)
            dmb();
        uint32_t loaded = *other;
        pair->loaded_new[side].value = loaded == run;
        meet(&pair->ready[side].value, &pair->ready[!side].value, 2 * run);
        dmb();
        if (side == 0)
            pair->outcomes[pair->loaded_new[0].value << 1 | pair->loaded_new[1].value]++;
    }
}

static void play(unsigned id)
{
    struct pair *pair = &pairs[id / 2];

    if (id / 2 >= pair_count())
        return;
    if (fenced)
        play_side(pair, id & 1, true);
    else
        play_side(pair, id & 1, false);
}

/* Returns how often both loads missed the other's store. */
static uint32_t run_variant(bool fence)
{
    uint32_t sums[4] = { 0 };

    fenced = fence;
    for (unsigned pair = 0; pair < pair_count(); pair++)
        for (unsigned side = 0; side < 2; side++) {
            pairs[pair].shared[side].value = pairs[pair].ready[side].value = 0;
            pairs[pair].outcomes[side] = pairs[pair].outcomes[side + 2] = 0;
        }
    on_all_vcpus(play);
    for (unsigned pair = 0; pair < pair_count(); pair++)
        for (unsigned outcome = 0; outcome < 4; outcome++)
            sums[outcome] += pairs[pair].outcomes[outcome];
    print("result: guest=sb fence=%s pairs=%u runs=%u o00=%u o01=%u o10=%u o11=%u\n", fence ? "dmb" : "none",
          pair_count(), runs * pair_count(), sums[0], sums[1], sums[2], sums[3]);
    return sums[0];
}

int main(void)
{
    runs = testdev_parameter(RUNS);
    mmu_enable();
    run_variant(false);
    return run_variant(true) != 0;
}
