/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that changes. "cross": one vCPU of each pair writes a function, cleans and invalidates by address, and tells
 * the other, which does an ISB and calls it: the new function must run. "self": every vCPU runs a function that
 * rewrites an instruction in its own page and counts in a word of it. The parameter is the number of rounds.
 */
#include "litmus.h"
#include "mmu.h"
#include "sync.h"

#define ROUNDS 500u

#define MOVW_R0 0xe3000000u /* mov{w,t} r0, #imm16: imm in [19:16] and [11:0] */
#define MOVT_R0 0xe3400000u
#define BX_LR 0xe12fff1eu
static inline uint32_t immediate16(uint32_t value) { return (value & 0xf000) << 4 | (value & 0xfff); }

typedef uint32_t (*function)(void);
typedef uint32_t (*self_modifying)(uint32_t instruction);

extern const uint32_t self_modifying_code[], self_modifying_counter[], self_modifying_end[];

static uint32_t pages[MAX_VCPUS][1024] ALIGNED(4096) NOINIT;
static struct pair {
    struct lone_word written, executed;
    uint32_t returned;
} pairs[MAX_PAIRS];
static uint32_t wrong[MAX_VCPUS];
static uint32_t rounds;

/* A value whose halves both change from round to round. */
static uint32_t value_of(uint32_t round) { return round * 0x9e3779b1u; }

static void write_function(uint32_t *where, uint32_t value)
{
    where[0] = MOVW_R0 | immediate16(value & 0xffff);
    where[1] = MOVT_R0 | immediate16(value >> 16);
    where[2] = BX_LR;
    code_publish(where, 12);
}

static void play_cross(unsigned id)
{
    struct pair *pair = &pairs[id / 2];
    uint32_t *page = pages[id / 2];

    if (id / 2 >= pair_count())
        return;
    for (uint32_t round = 1; round <= rounds; round++) {
        /* Three places: same line as before, another line, the page's end. */
        uint32_t *where = page + (round % 3 == 0 ? 0 : round % 3 == 1 ? 512 : 1021);
        if (id & 1) {
            wait_for_run(&pair->written.value, round);
            dmb();
            isb();
            pair->returned = ((function)where)();
            dmb();
            pair->executed.value = round;
        } else {
            write_function(where, value_of(round));
            dmb();
            pair->written.value = round;
            wait_for_run(&pair->executed.value, round);
            dmb();
            wrong[id] += pair->returned != value_of(round);
        }
    }
}

static void play_self(unsigned id)
{
    uint32_t *page = pages[id], length = self_modifying_end - self_modifying_code;

    for (uint32_t word = 0; word < length; word++)
        page[word] = self_modifying_code[word];
    code_publish(page, length * 4);
    for (uint32_t round = 1; round <= rounds; round++)
        wrong[id] += ((self_modifying)page)(MOVW_R0 | immediate16(round & 0xffff)) != (round & 0xffff);
    wrong[id] += page[self_modifying_counter - self_modifying_code] != rounds;
}

static uint32_t run_variant(const char *name, void (*play)(unsigned id))
{
    uint32_t sum = 0;

    for (unsigned id = 0; id < vcpu_count(); id++)
        wrong[id] = 0;
    on_all_vcpus(play);
    for (unsigned id = 0; id < vcpu_count(); id++)
        sum += wrong[id];
    print("result: guest=code variant=%s rounds=%u wrong=%u\n", name, rounds, sum);
    return sum;
}

int main(void)
{
    rounds = testdev_parameter(ROUNDS);
    mmu_enable();
    return (run_variant("cross", play_cross) | run_variant("self", play_self)) != 0;
}
