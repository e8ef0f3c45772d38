/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLB maintenance by the book, every step acknowledged: a vCPU maps a page and a page of code, all use them; it
 * unmaps both and invalidates (TLBIMVAIS, DSB); from then on every vCPU must fault; it maps other frames, and
 * all must see those. The vCPUs take turns. The parameter is the number of rounds.
 */
#include "mmu.h"
#include "sync.h"

#define ROUNDS 100u
#define FRAMES 16u
#define DATA_ATTRIBUTES (PAGE_NORMAL | PAGE_AP_PRIVILEGED | PAGE_XN)
#define CODE_ATTRIBUTES (PAGE_NORMAL | PAGE_AP_PRIVILEGED)
#define TRANSLATION_FAULT_PAGE 0x7u

#define MOVW_R0 0xe3000000u /* movw r0, #imm16: imm in [19:16] and [11:0] */
#define BX_LR 0xe12fff1eu

static uint32_t data_frames[FRAMES][1024] ALIGNED(4096) NOINIT;
static uint32_t code_frames[FRAMES][1024] ALIGNED(4096) NOINIT;
static struct {
    uint32_t faults, stale, wrong;
} ALIGNED(64) seen[MAX_VCPUS];
static struct barrier barrier;
static uint32_t rounds;

static uint32_t content(unsigned frame, unsigned word) { return frame << 16 | word; }

static void fill_frames(void)
{
    for (unsigned frame = 0; frame < FRAMES; frame++) {
        for (unsigned word = 0; word < 1024; word++)
            data_frames[frame][word] = content(frame, word);
        code_frames[frame][0] = MOVW_R0 | frame;
        code_frames[frame][1] = BX_LR;
        code_publish(code_frames[frame], 8);
    }
}

static bool handle_data_abort(struct frame *frame)
{
    unsigned id = vcpu_id();

    if (fault_status(read_dfsr()) != TRANSLATION_FAULT_PAGE || (read_dfar() & ~0xfffffu) != WINDOW_BASE)
        return false;
    seen[id].faults++;
    return probe_data_abort(frame);
}

static bool handle_prefetch_abort(struct frame *frame)
{
    if (fault_status(read_ifsr()) != TRANSLATION_FAULT_PAGE)
        return false;
    seen[vcpu_id()].faults++;
    return probe_prefetch_abort(frame);
}

/* Each vCPU looks at a word of its own. */
static void expect_mapped(unsigned id, unsigned page, unsigned frame)
{
    uint32_t word = 0, returned = 0;

    isb();
    if (!probe_read((uint32_t *)window_page(page) + id, &word) || word != content(frame, id))
        seen[id].wrong++;
    if (!probe_call((void *)window_page(page + 1), &returned) || returned != frame)
        seen[id].wrong++;
}

static void expect_unmapped(unsigned id, unsigned page)
{
    uint32_t word;

    isb();
    if (probe_read((uint32_t *)window_page(page) + id, &word))
        seen[id].stale++;
    if (probe_call((void *)window_page(page + 1), &word))
        seen[id].stale++;
}

static void map(unsigned page, unsigned frame)
{
    window_map(page, data_frames[frame], DATA_ATTRIBUTES);
    window_map(page + 1, code_frames[frame], CODE_ATTRIBUTES);
    dsb();
    isb();
}

static void unmap(unsigned page)
{
    window_unmap(page);
    window_unmap(page + 1);
    tlb_invalidate_page(window_page(page));
    tlb_invalidate_page(window_page(page + 1));
}

static void play(unsigned id)
{
    unsigned n = vcpu_count();

    for (uint32_t round = 0; round < rounds; round++) {
        bool turn = round % n == id;
        unsigned page = 2 * round % WINDOW_PAGES, first = round % FRAMES, second = (round + 5) % FRAMES;

        if (turn)
            map(page, first);
        barrier_wait(&barrier, n);
        expect_mapped(id, page, first);
        barrier_wait(&barrier, n);
        if (turn)
            unmap(page);
        barrier_wait(&barrier, n);
        expect_unmapped(id, page);
        barrier_wait(&barrier, n);
        if (turn)
            map(page, second);
        barrier_wait(&barrier, n);
        expect_mapped(id, page, second);
        barrier_wait(&barrier, n);
        if (turn)
            unmap(page);
    }
}

int main(void)
{
    uint32_t faults = 0, stale = 0, wrong = 0;

    rounds = testdev_parameter(ROUNDS);
    exception_handlers[DATA_ABORT] = handle_data_abort;
    exception_handlers[PREFETCH_ABORT] = handle_prefetch_abort;
    mmu_enable();
    fill_frames();
    on_all_vcpus(play);
    for (unsigned id = 0; id < vcpu_count(); id++) {
        faults += seen[id].faults;
        stale += seen[id].stale;
        wrong += seen[id].wrong;
    }
    print("result: guest=tlb rounds=%u faults=%u stale=%u wrong=%u\n", rounds, faults, stale, wrong);
    return faults != 2 * rounds * vcpu_count() || stale || wrong;
}
