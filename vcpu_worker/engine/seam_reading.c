/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the translator reads: the instruction that is being translated and, by block, those that were. */
#include "seam_reading.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "seam.h"

struct block {
    const void *key;
    uint32_t start;
    uint32_t halfwords;
    uint16_t *words;
};

static struct block *blocks; /* open addressing, a power of two */
static size_t block_slots, block_count;
static uint16_t reading[4096];
static uint32_t reading_start, reading_halfwords;
static bool is_reading;
static const void *restored;

static struct block *block_slot(struct block *table, size_t slots, const void *key)
{
    size_t i = ((uintptr_t)key >> 5) * 0x9e3779b97f4a7c15ull & (slots - 1);
    while (table[i].key != NULL && table[i].key != key)
        i = (i + 1) & (slots - 1);
    return &table[i];
}

void seam_reading_forget(void)
{
    for (size_t i = 0; i < block_slots; i++)
        free(blocks[i].words);
    free(blocks);
    blocks = NULL;
    block_slots = block_count = 0;
    restored = NULL;
}

static void keep_block(const void *key)
{
    if (2 * (block_count + 1) > block_slots) {
        size_t slots = block_slots ? 2 * block_slots : 1024;
        struct block *table = calloc(slots, sizeof *table);
        if (table == NULL)
            return;
        for (size_t i = 0; i < block_slots; i++)
            if (blocks[i].key != NULL)
                *block_slot(table, slots, blocks[i].key) = blocks[i];
        free(blocks);
        blocks = table;
        block_slots = slots;
    }
    struct block *b = block_slot(blocks, block_slots, key);
    if (b->key == NULL)
        block_count++;
    free(b->words);
    b->key = key;
    b->start = reading_start;
    b->words = malloc(2 * reading_halfwords);
    b->halfwords = b->words ? reading_halfwords : 0;
    if (b->words)
        memcpy(b->words, reading, 2 * reading_halfwords);
}

static struct {
    uint32_t word, at; /* the instruction that is being translated, and where its last halfword stood */
    bool thumb, may_grow, fresh;
} translated;

static bool is_wide(uint32_t first_halfword)
{
    return first_halfword >> 11 >= 0x1d;
}

void seam_reading_note(uint32_t address, uint32_t value, unsigned halfwords)
{
    if (!is_reading)
        return;
    bool second = halfwords == 1 && translated.may_grow && address == translated.at + 2;
    translated.word = second ? translated.word << 16 | value : value;
    translated.at = address;
    translated.thumb = halfwords == 1;
    translated.may_grow = halfwords == 1 && !second && is_wide(value);
    translated.fresh = true;
    uint32_t index = (address - reading_start) / 2;
    if (index + halfwords > sizeof reading / sizeof *reading)
        return;
    reading[index] = (uint16_t)value;
    if (halfwords == 2)
        reading[index + 1] = (uint16_t)(value >> 16);
    if (index + halfwords > reading_halfwords)
        reading_halfwords = index + halfwords;
}

void seam_reading_begin(uint32_t pc)
{
    is_reading = true;
    reading_start = pc;
    reading_halfwords = 0;
}

void seam_reading_end(const void *key)
{
    is_reading = false;
    if (key != NULL)
        keep_block(key);
}

bool seam_reading_first_load(uint32_t *word, bool *thumb)
{
    bool first = translated.fresh;
    *word = translated.word;
    *thumb = translated.thumb;
    translated.fresh = false;
    return first;
}

void seam_reading_restored(const void *key)
{
    restored = key;
}

unsigned seam_executed(uint32_t pc, bool thumb, uint32_t *word)
{
    if (restored == NULL || block_slots == 0)
        return 0;
    const struct block *b = block_slot(blocks, block_slots, restored);
    uint32_t index = (pc - b->start) / 2;
    if (b->key == NULL || pc < b->start || index >= b->halfwords)
        return 0;
    bool wide = !thumb || is_wide(b->words[index]);
    if (wide && index + 1 >= b->halfwords)
        return 0;
    if (!wide)
        *word = b->words[index];
    else if (thumb)
        *word = (uint32_t)b->words[index] << 16 | b->words[index + 1];
    else
        *word = (uint32_t)b->words[index + 1] << 16 | b->words[index];
    return wide ? 4 : 2;
}
