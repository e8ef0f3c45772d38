/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Swap at stage 2, as the host of a hypervisor does it: a page goes to a file, and its frame to somebody else.
 *
 *   the actor A (a worker outside the guest)                    a vCPU V that uses the page
 *   break the entry; a flush on every vCPU, waited for          faults from now on, and waits
 *   write the frame to the file, fill it with something else
 *   the entry says SWAPPED                                      its next fault reads the page back, into the same frame
 *
 * A stands for somebody who runs beside the vCPUs. So it does not act in a world that somebody else has stopped: while it
 * changes the frame it counts as in the guest, and a stop waits for it.
 *
 * The file holds the pages at their place in RAM and, behind them, a record for each: a page that comes back is checked
 * against what left, and the frame against what it was filled with, for whoever wrote to it in between used a translation
 * that had been invalidated.
 */
#include "stage2_entry.h"

#include <stdio.h>

#define PAGE 4096u
#define WORDS (PAGE / 4)

struct swap_record {
    uint64_t hash;
    uint64_t entry; /* as it was */
    uint32_t fill, used;
};

static uint64_t hash_of(const void *page)
{
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a, by words */
    const uint64_t *words = page;
    for (unsigned i = 0; i < PAGE / 8; i++)
        hash = (hash ^ words[i]) * 0x100000001b3ull;
    return hash;
}

static off_t record_at(const struct vcpu *v, uint32_t ipa)
{
    return (off_t)v->ram_bytes + (off_t)((ipa - RAM_BASE) / PAGE * sizeof(struct swap_record));
}

static bool transfer(struct vcpu *v, uint32_t ipa, void *page, struct swap_record *record, bool out)
{
    off_t at = ipa - RAM_BASE;
    ssize_t bytes = out ? pwrite(v->swap_fd, page, PAGE, at) : pread(v->swap_fd, page, PAGE, at);
    bool good = bytes == PAGE;
    if (good) {
        bytes = out ? pwrite(v->swap_fd, record, sizeof *record, record_at(v, ipa))
                    : pread(v->swap_fd, record, sizeof *record, record_at(v, ipa));
        good = bytes == (ssize_t)sizeof *record;
    }
    if (good)
        return true;
    snprintf(v->sentence, sizeof v->sentence, "the page at 0x%08x can not be %s the swap file: %s", ipa,
             out ? "written to" : "read from", bytes < 0 ? strerror(errno) : "it is cut short");
    return false;
}

/* Count as in the guest, when the world is not stopped. False when the run is over. */
static bool begin_to_act(struct vcpu *v)
{
    while (!cp_enter(v->slot, ~(uint32_t)(CP_STOP | CP_QUIT))) {
        cp_leave(v->slot);
        if (atomic_load(&v->slot->requests) & CP_QUIT)
            return false;
        cp_park(v->slot, CP_STOP, CP_QUIT, PARK_NS);
        cp_beat(&v->slot->process);
    }
    return true;
}

enum swap_result stage2_swap_out(struct vcpu *v, uint32_t ipa, uint32_t fill, bool ipi)
{
    if (!stage2_in_ram(v, ipa) || v->swap_fd < 0)
        return SWAP_UNUSED;
    ipa &= ~(PAGE - 1);
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t old = atomic_load(entry);
    if (!(old & VALID))
        return old == 0 ? SWAP_UNUSED : SWAP_BUSY;
    if (!atomic_compare_exchange_strong(entry, &old, (old & ~VALID) | BROKEN))
        return SWAP_BUSY;
    vcpu_shootdown(v, CP_TLB_FLUSH, ipi, true);
    if (!begin_to_act(v)) {
        atomic_store(entry, old);
        return SWAP_BUSY;
    }
    uint32_t *frame = (uint32_t *)(v->ram + (ipa - RAM_BASE));
    struct swap_record record = { hash_of(frame), old, fill, 1 };
    bool written = transfer(v, ipa, frame, &record, true);
    if (written)
        for (unsigned i = 0; i < WORDS; i++)
            frame[i] = fill;
    atomic_store(entry, written ? SWAPPED : old);
    cp_leave(v->slot);
    if (!written)
        return SWAP_FAILED;
    cp_count(v->slot, CP_COUNT_SWAP_OUT);
    return SWAP_DONE;
}

enum swap_result stage2_swap_in(struct vcpu *v, uint32_t ipa)
{
    if (!stage2_in_ram(v, ipa))
        return SWAP_UNUSED;
    ipa &= ~(PAGE - 1);
    _Atomic uint64_t *entry = entry_of(v, ipa);
    uint64_t old = atomic_load(entry);
    if (!(old & SWAPPED))
        return old == 0 || old & VALID ? SWAP_UNUSED : SWAP_BUSY;
    if (!atomic_compare_exchange_strong(entry, &old, BROKEN))
        return SWAP_BUSY;
    uint32_t page[WORDS], *frame = (uint32_t *)(v->ram + (ipa - RAM_BASE));
    struct swap_record record;
    if (!transfer(v, ipa, page, &record, false)) {
        atomic_store(entry, SWAPPED);
        v->swap_failed = true;
        return SWAP_FAILED;
    }
    if (record.used != 1 || record.hash != hash_of(page)) {
        snprintf(v->sentence, sizeof v->sentence, "the page at 0x%08x came back from the swap file with other contents than "
                 "it left with: the file is damaged", ipa);
        atomic_store(entry, SWAPPED);
        v->swap_failed = true;
        return SWAP_FAILED;
    }
    for (unsigned i = 0; i < WORDS; i++)
        if (frame[i] != record.fill) {
            cp_count(v->slot, CP_COUNT_SWAP_WRITTEN);
            break;
        }
    memcpy(frame, page, PAGE);
    atomic_store(entry, record.entry);
    cp_count(v->slot, CP_COUNT_SWAP_IN);
    return SWAP_DONE;
}

void stage2_bring_in(struct vcpu *v, uint32_t ipa, uint64_t bytes)
{
    for (uint64_t page = ipa & ~(PAGE - 1); page < (uint64_t)ipa + bytes; page += PAGE)
        while (stage2_in_ram(v, (uint32_t)page) && !v->swap_failed
               && !(atomic_load(&v->slot->requests) & CP_QUIT)) {
            uint64_t old = atomic_load(entry_of(v, (uint32_t)page));
            if (old == 0 || old & VALID)
                break;
            if (stage2_swap_in(v, (uint32_t)page) == SWAP_BUSY)
                cp_shootdown_park(v->host, PARK_NS);
        }
}
