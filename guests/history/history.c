/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random accesses of all vCPUs to a few words on a few pages, and whether each word has one history.
 *
 * Every write of a word gives it the next version. Shared words are written by all, with LDREX and STREX; of the others
 * each has one writer, which uses plain stores. Each vCPU remembers the newest version of each word that it has seen.
 *
 *   back     a read gave an older version than this vCPU had seen of the word
 *   twice    two writes gave a shared word the same version, or one gave it a version that is not the next
 *   missing  at the end: a version that no vCPU wrote, or a word that is not at its last one
 *   causal   word B showed a write that came after one to word A, with a DMB on both sides, but A was older
 *
 * The parameter is steps << 8 | seed (2000 steps, seed 1).
 */
#include "mmu.h"
#include "sync.h"

#define PAGES 5u
#define SHARED 8u
#define MAX_STEPS 20000u
#define PAGE_WORDS 1024u

static struct {
    uint32_t shared[SHARED];
} ALIGNED(4096) seen[MAX_VCPUS]; /* a vCPU's private memory is on separate pages */
static uint32_t memory[PAGES][PAGE_WORDS] ALIGNED(4096) NOINIT;
static uint8_t written[SHARED][MAX_STEPS * 4] ALIGNED(4096) NOINIT; /* the vCPU that wrote this version, + 1 */
static struct {
    uint32_t seen_own[MAX_VCPUS], seen_pair[MAX_VCPUS], mine, pairs, back, twice, causal, reads, writes;
} ALIGNED(4096) vcpus[MAX_VCPUS];
static struct barrier gate;
static uint32_t steps, seed;

/* Words that are neighbours in number are on different pages; a page has shared words, single-writer words and pairs. */
static uint32_t *shared_word(unsigned i) { return &memory[i % PAGES][16 * i]; }
static uint32_t *own_word(unsigned id) { return &memory[(id + 1) % PAGES][256 + id]; }
static uint32_t *pair_word(unsigned id, unsigned second) { return &memory[(id + 2 + second) % PAGES][512 + 2 * id + second]; }

static uint32_t next_number(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void look(unsigned id, uint32_t *newest, uint32_t version)
{
    vcpus[id].reads++;
    if (version < *newest)
        vcpus[id].back++;
    else
        *newest = version;
}

static void write_shared(unsigned id, unsigned i)
{
    uint32_t version, failed;

    do {
        asm volatile("ldrex %0, [%2]\n\tadd %0, %0, #1\n\tstrex %1, %0, [%2]"
                     : "=&r"(version), "=&r"(failed) : "r"(shared_word(i)) : "memory");
    } while (failed);
    vcpus[id].writes++;
    if (version <= seen[id].shared[i] || version > MAX_STEPS * 4 || written[i][version - 1])
        vcpus[id].twice++;
    else
        written[i][version - 1] = (uint8_t)(id + 1);
    seen[id].shared[i] = version;
}

static void write_pair(unsigned id)
{
    uint32_t version = ++vcpus[id].pairs;

    *(volatile uint32_t *)pair_word(id, 0) = version;
    dmb();
    *(volatile uint32_t *)pair_word(id, 1) = version;
    vcpus[id].writes += 2;
}

static void read_pair(unsigned id, unsigned of)
{
    uint32_t second = *(volatile uint32_t *)pair_word(of, 1);

    dmb();
    uint32_t first = *(volatile uint32_t *)pair_word(of, 0);
    look(id, &vcpus[id].seen_pair[of], second);
    if (first < second)
        vcpus[id].causal++;
}

static void play(unsigned id)
{
    uint32_t state = seed * 2654435761u + id * 40503u + 1, n = vcpu_count();

    barrier_wait(&gate, n);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t number = next_number(&state);
        unsigned what = number >> 28, which = number >> 8;
        if (what < 6)
            look(id, &seen[id].shared[which % SHARED], load_acquire(shared_word(which % SHARED)));
        else if (what < 9)
            look(id, &vcpus[id].seen_own[which % n], *(volatile uint32_t *)own_word(which % n));
        else if (what < 11)
            read_pair(id, which % n);
        else if (what < 13)
            write_shared(id, which % SHARED);
        else if (what < 15) {
            *(volatile uint32_t *)own_word(id) = ++vcpus[id].mine;
            vcpus[id].writes++;
        } else
            write_pair(id);
    }
    barrier_wait(&gate, n);
    if (id != 0)
        return;
    uint32_t reads = 0, writes = 0, back = 0, twice = 0, causal = 0, missing = 0;
    for (unsigned i = 0; i < SHARED; i++)
        for (uint32_t version = 1, last = *shared_word(i); version <= last; version++)
            missing += !written[i][version - 1];
    for (unsigned v = 0; v < n; v++) {
        missing += *own_word(v) != vcpus[v].mine || *pair_word(v, 0) != vcpus[v].pairs || *pair_word(v, 1) != vcpus[v].pairs;
        reads += vcpus[v].reads;
        writes += vcpus[v].writes;
        back += vcpus[v].back;
        twice += vcpus[v].twice;
        causal += vcpus[v].causal;
    }
    print("result: guest=history vcpus=%u reads=%u writes=%u back=%u twice=%u missing=%u causal=%u\n", n, reads, writes, back,
          twice, missing, causal);
    if (back | twice | missing | causal)
        testdev_exit(1);
}

int main(void)
{
    uint32_t parameter = testdev_parameter(2000u << 8 | 1);

    seed = parameter & 255;
    steps = parameter >> 8;
    if (steps == 0 || steps * vcpu_count() > MAX_STEPS * 4)
        steps = MAX_STEPS * 4 / vcpu_count();
    mmu_enable();
    for (unsigned page = 0; page < PAGES; page++)
        for (unsigned i = 0; i < PAGE_WORDS; i++)
            memory[page][i] = 0;
    for (unsigned i = 0; i < SHARED; i++)
        for (unsigned version = 0; version < MAX_STEPS * 4; version++)
            written[i][version] = 0;
    on_all_vcpus(play);
    return 0;
}
