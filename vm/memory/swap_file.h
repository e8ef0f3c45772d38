/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The swap file: the pages at their place in RAM and, behind them, a record for each. A page that comes back is
 * checked against what left. Its frame is checked against what it was filled with: a vCPU that wrote to it in
 * between used a translation that had been invalidated. Shared by the engine, whose vCPUs swap out and in, and by
 * the device server and the node, which swap in. */
#ifndef ALLSTOP_SWAP_FILE_H
#define ALLSTOP_SWAP_FILE_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stage2_entry.h"

#define SWAP_PAGE 4096u
#define SWAP_WORDS (SWAP_PAGE / 4)
#define SENTENCE_BYTES 256

enum swap_result {
    SWAP_DONE,
    SWAP_UNUSED, /* the page was never used, or it is not swapped out */
    SWAP_BUSY,   /* another process changes its entry, or the page is out already, or the run is over */
    SWAP_FAILED, /* a sentence says why */
};

struct swap_record {
    uint64_t hash;
    uint64_t entry; /* as it was */
    uint32_t fill, used;
};

static inline uint64_t swap_hash(const void *page)
{
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a, by words */
    const uint64_t *words = page;
    for (unsigned i = 0; i < SWAP_PAGE / 8; i++)
        hash = (hash ^ words[i]) * 0x100000001b3ull;
    return hash;
}

/* One page and its record, out or in. */
static inline bool swap_transfer(const struct guest_pages *g, uint32_t ipa, void *page, struct swap_record *record,
                                 bool out, char sentence[SENTENCE_BYTES])
{
    off_t at = ipa - RAM_BASE, record_at = (off_t)g->ram_bytes + (off_t)(at / SWAP_PAGE * sizeof(struct swap_record));
    ssize_t bytes = out ? pwrite(g->swap_fd, page, SWAP_PAGE, at) : pread(g->swap_fd, page, SWAP_PAGE, at);
    bool good = bytes == SWAP_PAGE;
    if (good) {
        bytes = out ? pwrite(g->swap_fd, record, sizeof *record, record_at)
                    : pread(g->swap_fd, record, sizeof *record, record_at);
        good = bytes == (ssize_t)sizeof *record;
    }
    if (good)
        return true;
    snprintf(sentence, SENTENCE_BYTES, "the page at 0x%08x cannot be %s the swap file: %s", ipa,
             out ? "written to" : "read from", bytes < 0 ? strerror(errno) : "it is cut short");
    return false;
}

/* Read the page back into its frame. `ipa` begins a page of RAM. `written`: the frame was written to meanwhile. */
static inline enum swap_result swap_page_in(const struct guest_pages *g, uint32_t ipa, bool *written,
                                            char sentence[SENTENCE_BYTES])
{
    _Atomic uint64_t *entry = page_entry(g, ipa);
    uint64_t old = atomic_load(entry);
    *written = false;
    if (!(old & SWAPPED))
        return old == 0 || old == OWNED || old & VALID ? SWAP_UNUSED : SWAP_BUSY;
    if (!atomic_compare_exchange_strong(entry, &old, BROKEN))
        return SWAP_BUSY;
    uint32_t page[SWAP_WORDS], *frame = (uint32_t *)(g->ram + (ipa - RAM_BASE));
    struct swap_record record;
    bool good = swap_transfer(g, ipa, page, &record, false, sentence);
    if (good && (record.used != 1 || record.hash != swap_hash(page))) {
        snprintf(sentence, SENTENCE_BYTES,
                 "the page at 0x%08x came back from the swap file with other contents than it left with: the file is "
                 "damaged",
                 ipa);
        good = false;
    }
    if (!good) {
        atomic_store(entry, SWAPPED);
        return SWAP_FAILED;
    }
    for (unsigned i = 0; i < SWAP_WORDS && !*written; i++)
        *written = frame[i] != record.fill;
    memcpy(frame, page, SWAP_PAGE);
    atomic_store(entry, record.entry);
    return SWAP_DONE;
}

#endif
