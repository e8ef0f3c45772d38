/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cost of pages of other hosts, timed by the guest. vCPU 0 and the last vCPU work; the others wait for the end.
 *
 *   read       the last vCPU reads a word in each of N pages that vCPU 0 has just written
 *   write      ... and then writes there
 *   fetch      vCPU 0 writes to those pages: they are the last vCPU's only
 *   pingpong   both add to a word alternately, N times each: a page that moves to and fro
 *   private    both compute in pages of their own
 *
 * The parameter is N (200).
 */
#include "gic.h"
#include "mmu.h"
#include "sync.h"

#define PAGES 512u
#define PAGE_WORDS 1024u
#define PRIVATE_ROUNDS 30000u

static uint32_t field[PAGES][PAGE_WORDS] ALIGNED(4096) NOINIT;
static uint32_t own[2][4 * PAGE_WORDS] ALIGNED(4096) NOINIT;
static uint32_t samples[PAGES] ALIGNED(4096) NOINIT;
static struct {
    uint32_t word;
} ALIGNED(4096) ball, phase, ended;
static unsigned n;
static uint32_t took[2] ALIGNED(4096);

static inline uint64_t counter(void)
{
    uint32_t low, high;

    asm volatile("mrrc p15, 1, %0, %1, c14" : "=r"(low), "=r"(high) :: "memory"); /* CNTVCT */
    return (uint64_t)high << 32 | low;
}

static uint32_t nanoseconds(uint32_t ticks) { return ticks * 16; } /* 62.5 MHz */

static void sort(void)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned j = i; j > 0 && samples[j - 1] > samples[j]; j--) {
            uint32_t swapped = samples[j];
            samples[j] = samples[j - 1];
            samples[j - 1] = swapped;
        }
}

static void tell(const char *operation)
{
    sort();
    print("result: guest=pages operation=%s samples=%u min_ns=%u p50_ns=%u p99_ns=%u\n", operation, n,
          nanoseconds(samples[0]), nanoseconds(samples[n / 2]), nanoseconds(samples[n * 99 / 100]));
}

/* Waiting vCPUs sleep: spinning would take the core of a measured vCPU. */
static void arrive(uint32_t number)
{
    store_release(&phase.word, number);
    gic_send_sgi_to_others(0);
}

static void wait_for(uint32_t number)
{
    while (load_acquire(&phase.word) < number) {
        wfi();
        gic_end(gic_acknowledge());
    }
}

static void touch(bool write)
{
    for (unsigned i = 0; i < n; i++) {
        volatile uint32_t *word = &field[i][i];
        uint64_t before = counter();
        if (write)
            *word = i + 1;
        else
            (void)*word;
        samples[i] = (uint32_t)(counter() - before);
    }
}

static void play_ball(uint32_t side)
{
    for (uint32_t turn = 0; turn < n; turn++) {
        while (load_acquire(&ball.word) != 2 * turn + side)
            wfe();
        store_release(&ball.word, 2 * turn + side + 1);
    }
}

static void compute(unsigned side)
{
    uint64_t before = 0;

    for (unsigned round = 0; round <= PRIVATE_ROUNDS; round++) {
        if (round == 1) /* the first has fetched the pages */
            before = counter();
        for (unsigned i = 0; i < 4 * PAGE_WORDS; i++)
            own[side][i] = own[side][i] * 5 + round;
    }
    took[side] = (uint32_t)(counter() - before);
}

static void play(unsigned id)
{
    gic_init_interface();
    if (id == 0) {
        touch(true);
        arrive(1);
        wait_for(2);
        touch(true);
        tell("fetch");
        arrive(3);
        uint64_t before = counter();
        play_ball(0);
        print("result: guest=pages operation=pingpong turns=%u each_ns=%u\n", 2 * n,
              nanoseconds((uint32_t)(counter() - before) / (2 * n)));
        wait_for(4);
        compute(0);
        wait_for(5);
        print("result: guest=pages operation=private first_ns=%u last_ns=%u\n", nanoseconds(took[0]), nanoseconds(took[1]));
        store_release(&ended.word, 1);
        gic_send_sgi_to_others(0);
    } else if (id == vcpu_count() - 1) {
        wait_for(1);
        touch(false);
        tell("read");
        touch(true);
        tell("write");
        arrive(2);
        wait_for(3);
        play_ball(1);
        arrive(4);
        compute(1);
        arrive(5);
    } else {
        while (!load_acquire(&ended.word)) {
            wfi();
            gic_end(gic_acknowledge());
        }
    }
}

int main(void)
{
    n = testdev_parameter(200);
    if (n == 0 || n > PAGES)
        n = PAGES;
    mmu_enable();
    gic_init_distributor();
    on_all_vcpus(play);
    return 0;
}
