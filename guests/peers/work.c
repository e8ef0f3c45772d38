/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Computing that neither exits nor shares: function calls, memory, branches, and a mixture of the kind that embedded
 * benchmarks use: a matrix, a list, a state machine and a checksum. Translated code is all that it measures.
 */
#include "work.h"

#define WORKERS 8u /* more vCPUs share their memory, and are slower for it */
#define MEMORY_WORDS 65536u
#define SIDE 16u
#define NODES 128u

static uint32_t memory[WORKERS][MEMORY_WORDS] ALIGNED(4096) NOINIT;

static struct mixture {
    int32_t a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];
    struct node {
        struct node *next;
        uint32_t key;
    } nodes[NODES];
} mixtures[WORKERS] ALIGNED(4096) NOINIT;

static inline uint32_t step(uint32_t state) { return state * 1664525u + 1013904223u; }

/* Every call is made: the compiler may neither inline it nor turn the recursion into a loop. */
static uint32_t __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) fibonacci(uint32_t n)
{
    asm volatile("" : "+r"(n));
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

uint32_t work_calls(unsigned id, uint32_t rounds)
{
    uint32_t sum = 0;

    (void)id;
    while (rounds--)
        sum = step(sum + fibonacci(15));
    return sum;
}

/* A round: a pass that writes, one that reads with a stride, and a walk where each address comes from the last load. */
uint32_t work_memory(unsigned id, uint32_t rounds)
{
    volatile uint32_t *words = memory[id % WORKERS];
    uint32_t sum = 0;

    while (rounds--) {
        for (uint32_t i = 0; i < MEMORY_WORDS; i++)
            words[i] = i * 40503u + rounds;
        for (uint32_t first = 0; first < 16; first++)
            for (uint32_t i = first; i < MEMORY_WORDS; i += 16)
                sum += words[i];
        for (uint32_t i = 0, at = 0; i < MEMORY_WORDS / 2; i++)
            at = (words[at] + sum) % MEMORY_WORDS, sum += at;
    }
    return sum;
}

uint32_t work_branches(unsigned id, uint32_t rounds)
{
    uint32_t state = 1, sum = 0;

    (void)id;
    for (uint32_t i = 0; i < rounds * 4096; i++) {
        state = step(state);
        if (state >> 31)
            sum += 3;
        else if (state >> 30 & 1)
            sum ^= state;
        else if (state >> 29 & 1)
            sum -= i;
        else
            sum = ~sum;
        switch (state >> 24 & 7) {
        case 0: sum += 11; break;
        case 1: sum ^= 0x55; break;
        case 2: sum -= 7; break;
        case 3: sum += state >> 16; break;
        case 4: sum ^= sum << 3; break;
        default: asm volatile(""); break;
        }
    }
    return sum;
}

static uint32_t checksum(uint32_t crc, uint32_t word)
{
    for (unsigned byte = 0; byte < 4; byte++) {
        crc ^= word >> 8 * byte & 0xff;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return crc;
}

static uint32_t multiply(struct mixture *m, uint32_t seed)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++) {
            m->a[i][j] = (int32_t)(seed = step(seed)) >> 20;
            m->b[i][j] = (int32_t)(seed = step(seed)) >> 20;
        }
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++) {
            int32_t cell = 0;
            for (unsigned k = 0; k < SIDE; k++)
                cell += m->a[i][k] * m->b[k][j];
            m->c[i][j] = cell;
            sum += (uint32_t)cell;
        }
    return sum;
}

/* Sort a list by insertion, turn it round, and look for keys. */
static uint32_t lists(struct mixture *m, uint32_t seed)
{
    struct node *head = NULL, *turned = NULL;
    uint32_t found = 0;

    for (unsigned i = 0; i < NODES; i++) {
        struct node *node = &m->nodes[i], **place = &head;
        node->key = (seed = step(seed)) >> 16;
        while (*place && (*place)->key < node->key)
            place = &(*place)->next;
        node->next = *place;
        *place = node;
    }
    while (head) {
        struct node *next = head->next;
        head->next = turned;
        turned = head;
        head = next;
    }
    for (unsigned i = 0; i < 16; i++) {
        uint32_t least = (seed = step(seed)) >> 16;
        for (struct node *node = turned; node && node->key >= least; node = node->next)
            found++;
    }
    return found;
}

/* Numbers as text, read one character after the other by a state machine: sign, digits, point, digits. */
static uint32_t parse(uint32_t seed)
{
    static const char text[] = "17,-4.25,+3,9999.5,x1,--2,0.,.5,12e,-0.001,65536,1.2.3,";
    enum { START, SIGN, WHOLE, POINT, WRONG } state = START;
    uint32_t ends[5] = { 0 }, sum = 0;

    for (unsigned pass = 0; pass < 8; pass++)
        for (const char *at = text; *at; at++) {
            char character = (seed = step(seed)) >> 27 ? *at : '7';
            if (character == ',') {
                ends[state]++;
                state = START;
                continue;
            }
            switch (state) {
            case START:
                state = character == '-' || character == '+' ? SIGN
                      : character >= '0' && character <= '9' ? WHOLE : character == '.' ? POINT : WRONG;
                break;
            case SIGN:
            case WHOLE:
                state = character >= '0' && character <= '9' ? WHOLE : character == '.' ? POINT : WRONG;
                break;
            case POINT:
                state = character >= '0' && character <= '9' ? POINT : WRONG;
                break;
            default:
                break;
            }
        }
    for (unsigned i = 0; i < 5; i++)
        sum = sum * 31 + ends[i];
    return sum;
}

uint32_t work_mixed(unsigned id, uint32_t rounds)
{
    struct mixture *m = &mixtures[id % WORKERS];
    uint32_t crc = 0xffffffffu;

    for (uint32_t round = 0; round < rounds; round++) {
        crc = checksum(crc, multiply(m, round));
        crc = checksum(crc, lists(m, round));
        crc = checksum(crc, parse(round));
        for (unsigned i = 0; i < SIDE; i++)
            crc = checksum(crc, (uint32_t)m->c[i][i]);
    }
    return crc;
}
