/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Message passing: one vCPU does data = 1; flag = 1 and the other a = flag; b = data. That a = 1, b = 0 is allowed
 * by the architecture (hosts with a stronger order never show it) unless both have a DMB between: then it is
 * forbidden. The parameter is the number of runs by pair.
 */
#include "litmus.h"
#include "mmu.h"
#include "sync.h"

#define RUNS 200000u

static struct pair {
    struct lone_word data, flag;
    struct lone_word ready[2];
    uint32_t outcomes[4];
} pairs[MAX_PAIRS];

static uint32_t runs;
static bool fenced;

static inline __attribute__((always_inline)) void write_side(struct pair *pair, bool fence)
{
    for (uint32_t run = 1; run <= runs; run++) {
        meet(&pair->ready[0].value, &pair->ready[1].value, run);
        pair->data.value = run;
        if (fence)
            dmb();
        pair->flag.value = run;
    }
    meet(&pair->ready[0].value, &pair->ready[1].value, runs + 1);
}

static inline __attribute__((always_inline)) void read_side(struct pair *pair, bool fence)
{
    uint32_t flag, data;

    for (uint32_t run = 1; run <= runs; run++) {
        meet(&pair->ready[1].value, &pair->ready[0].value, run);
        stagger(run);
        flag = pair->flag.value;
        if (fence)
            dmb();
        data = pair->data.value;
        pair->outcomes[(flag == run) << 1 | (data == run)]++;
    }
    meet(&pair->ready[1].value, &pair->ready[0].value, runs + 1);
}

static void play(unsigned id)
{
    struct pair *pair = &pairs[id / 2];

    if (id / 2 >= pair_count())
        return;
    if (fenced) {
        if (id & 1)
            read_side(pair, true);
        else
            write_side(pair, true);
    } else {
        if (id & 1)
            read_side(pair, false);
        else
            write_side(pair, false);
    }
}

/* Returns how often the flag came before the data. */
static uint32_t run_variant(bool fence)
{
    uint32_t sums[4] = { 0 };

    fenced = fence;
    for (unsigned pair = 0; pair < pair_count(); pair++) {
        pairs[pair].data.value = pairs[pair].flag.value = 0;
        pairs[pair].ready[0].value = pairs[pair].ready[1].value = 0;
        for (unsigned outcome = 0; outcome < 4; outcome++)
            pairs[pair].outcomes[outcome] = 0;
    }
    on_all_vcpus(play);
    for (unsigned pair = 0; pair < pair_count(); pair++)
        for (unsigned outcome = 0; outcome < 4; outcome++)
            sums[outcome] += pairs[pair].outcomes[outcome];
    print("result: guest=mp fence=%s pairs=%u runs=%u o00=%u o01=%u o10=%u o11=%u\n", fence ? "dmb" : "none",
          pair_count(), runs * pair_count(), sums[0], sums[1], sums[2], sums[3]);
    return sums[2];
}

int main(void)
{
    runs = testdev_parameter(RUNS);
    mmu_enable();
    run_variant(false);
    return run_variant(true) != 0;
}
