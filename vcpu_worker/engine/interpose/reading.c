/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/interpose/reading.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vcpu_worker/engine/interpose/state.h"

struct read_block {
    const void *key;
    uint32_t start;
    uint32_t halfwords;
    uint16_t *words;
};

static struct read_block *slot_of(struct read_block *table, size_t slots, const void *key)
{
    size_t i = ((uintptr_t)key >> 5) * 0x9e3779b97f4a7c15ull & (slots - 1);
    while (table[i].key != NULL && table[i].key != key)
        i = (i + 1) & (slots - 1);
    return &table[i];
}

void reading_forget(struct reading *r)
{
    for (size_t i = 0; i < r->slots; i++)
        free(r->blocks[i].words);
    free(r->blocks);
    r->blocks = NULL;
    r->slots = r->count = 0;
    r->restored = NULL;
}

static void keep_block(struct reading *r, const void *key)
{
    if (2 * (r->count + 1) > r->slots) {
        size_t slots = r->slots ? 2 * r->slots : 1024;
        struct read_block *table = calloc(slots, sizeof *table);
        if (table == NULL)
            return;
        for (size_t i = 0; i < r->slots; i++)
            if (r->blocks[i].key != NULL)
                *slot_of(table, slots, r->blocks[i].key) = r->blocks[i];
        free(r->blocks);
        r->blocks = table;
        r->slots = slots;
    }
    struct read_block *b = slot_of(r->blocks, r->slots, key);
    if (b->key == NULL)
        r->count++;
    free(b->words);
    b->key = key;
    b->start = r->start;
    b->words = malloc(2 * r->halfwords);
    b->halfwords = b->words ? r->halfwords : 0;
    if (b->words)
        memcpy(b->words, r->words, 2 * r->halfwords);
}

static bool is_wide(uint32_t first_halfword)
{
    return first_halfword >> 11 >= 0x1d;
}

void reading_note(struct reading *r, uint32_t address, uint32_t value, unsigned halfwords)
{
    if (!r->is_reading)
        return;
    bool second = halfwords == 1 && r->translated.may_grow && address == r->translated.at + 2;
    r->translated.word = second ? r->translated.word << 16 | value : value;
    r->translated.at = address;
    r->translated.thumb = halfwords == 1;
    r->translated.may_grow = halfwords == 1 && !second && is_wide(value);
    r->translated.fresh = true;
    uint32_t index = (address - r->start) / 2;
    if (index + halfwords > sizeof r->words / sizeof *r->words)
        return;
    r->words[index] = (uint16_t)value;
    if (halfwords == 2)
        r->words[index + 1] = (uint16_t)(value >> 16);
    if (index + halfwords > r->halfwords)
        r->halfwords = index + halfwords;
}

void reading_begin(struct reading *r, uint32_t pc)
{
    r->is_reading = true;
    r->start = pc;
    r->halfwords = 0;
}

void reading_end(struct reading *r, const void *key)
{
    r->is_reading = false;
    keep_block(r, key);
}

bool reading_first_load(struct reading *r, uint32_t *word, bool *thumb)
{
    bool first = r->translated.fresh;
    *word = r->translated.word;
    *thumb = r->translated.thumb;
    r->translated.fresh = false;
    return first;
}

void reading_restored(struct reading *r, const void *key)
{
    r->restored = key;
}

unsigned interpose_executed(const struct interpose *s, uint32_t pc, bool thumb, uint32_t *word)
{
    const struct reading *r = &s->reading;
    if (r->restored == NULL || r->slots == 0)
        return 0;
    const struct read_block *b = slot_of(r->blocks, r->slots, r->restored);
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
