/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Contended exclusives of every width, side by side in one doubleword and overlapping in another: all vCPUs add to
 * all of them, and nothing may be lost or spill into a neighbour. A vCPU that wraps a byte or halfword counts that,
 * so that a multiple of 256 lost is noticed as well. The parameter is the number of rounds by vCPU.
 */
#include "guest.h"
#include "mmu.h"
#include "sync.h"

#define ROUNDS 50000u

static struct {
    uint8_t bytes[2];
    uint16_t half;
    uint32_t word;
} adjacent ALIGNED(64);

static struct {
    uint64_t whole[2]; /* LDREXD adds 1 + (1 << 32); LDREX adds to either word of it, alone */
} overlapping ALIGNED(64);

static uint32_t byte_wraps[2] ALIGNED(64), half_wraps;
static struct barrier start;
static uint32_t rounds;

/* Add 1 with exclusives of one width; returns the value stored. */
#define DEFINE_INCREMENT(name, type, suffix) \
    static uint32_t name(type *where) \
    { \
        uint32_t value, failed; \
        asm volatile( \
            "1: ldrex" suffix " %0, [%2]\n" \
            "   add %0, %0, #1\n" \
            "   strex" suffix " %1, %0, [%2]\n" \
            "   cmp %1, #0\n" \
            "   bne 1b\n" \
            : "=&r"(value), "=&r"(failed) : "r"(where) : "cc", "memory"); \
        return (type)value; \
    }

DEFINE_INCREMENT(increment_byte, uint8_t, "b")
DEFINE_INCREMENT(increment_half, uint16_t, "h")

static void increment_both_words(uint64_t *where)
{
    uint32_t failed;

    asm volatile(
        "1: ldrexd r2, r3, [%1]\n"
        "   add r2, r2, #1\n"
        "   add r3, r3, #1\n"
        "   strexd %0, r2, r3, [%1]\n"
        "   cmp %0, #0\n"
        "   bne 1b\n"
        : "=&r"(failed) : "r"(where) : "r2", "r3", "cc", "memory");
}

static void add_side_by_side(unsigned id)
{
    (void)id;
    barrier_wait(&start, vcpu_count());
    for (uint32_t round = 0; round < rounds; round++) {
        for (unsigned byte = 0; byte < 2; byte++)
            if (increment_byte(&adjacent.bytes[byte]) == 0)
                exclusive_add(&byte_wraps[byte], 1);
        if (increment_half(&adjacent.half) == 0)
            exclusive_add(&half_wraps, 1);
        exclusive_add(&adjacent.word, 1);
    }
}

static void add_overlapping(unsigned id)
{
    barrier_wait(&start, vcpu_count());
    for (uint32_t round = 0; round < rounds; round++) {
        increment_both_words(&overlapping.whole[0]);
        exclusive_add((uint32_t *)&overlapping.whole[0] + (id & 1), 1);
        increment_both_words(&overlapping.whole[1]);
    }
}

static int report(const char *field, uint32_t count, uint32_t expected)
{
    print("result: guest=atomics field=%s count=%u expected=%u\n", field, count, expected);
    return count != expected;
}

int main(void)
{
    int failed = 0;
    unsigned n = vcpu_count(), odd = n / 2, even = n - odd;

    rounds = testdev_parameter(ROUNDS);
    mmu_enable();
    on_all_vcpus(add_side_by_side);
    on_all_vcpus(add_overlapping);
    uint32_t *words = (uint32_t *)overlapping.whole;
    failed |= report("byte0", byte_wraps[0] << 8 | adjacent.bytes[0], n * rounds);
    failed |= report("byte1", byte_wraps[1] << 8 | adjacent.bytes[1], n * rounds);
    failed |= report("half", half_wraps << 16 | adjacent.half, n * rounds);
    failed |= report("word", adjacent.word, n * rounds);
    failed |= report("double-low", words[0], (n + even) * rounds);
    failed |= report("double-high", words[1], (n + odd) * rounds);
    failed |= report("next-double-low", words[2], n * rounds);
    failed |= report("next-double-high", words[3], n * rounds);
    return failed;
}
