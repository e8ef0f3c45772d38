/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every class of load and store, A32 and Thumb, on a device that behaves like RAM. Each is run twice from the same
 * registers, on memory and on the device, and both runs must leave the same registers, flags and bytes. All vCPUs go
 * through the whole list at the same time, each on its own slice of the device. The parameter is how often.
 */
#include "mmio.h"
#include "mmu.h"
#include "sync.h"

#ifdef QEMU
#define RAMDEV_BASE 0x43f00000u /* no such device there: this checks the list, not a hypervisor */
#else
#define RAMDEV_BASE 0x0b100000u
#define COUNTER_BASE 0x0b010000u
#endif

#define SLICE_BYTES 1024u
#define SLICE_WORDS (SLICE_BYTES / 4)
#define SLICES_PER_PAGE (PAGE_BYTES / SLICE_BYTES)
#define BASE_OFFSET 512u         /* of a case's base in the slice */
#define LITERAL_BASE_OFFSET 64u
#define WINDOW_BYTES 32u         /* to either side of the base: what a case may touch */
#define WIDE_WINDOW_BYTES 160u

#define CPSR_Z (1u << 30)
#define CPSR_MASKS 0x1c0u
#define TABLE_OF_TWOS 0x02020202u
#define MAX_GROUPS 40u
#define COMPLAINTS 4u

#define CODE_ATTRIBUTES (PAGE_NORMAL | PAGE_AP_USER)
#define UNCACHED_ATTRIBUTES ((1u << 6) | (1u << 10) | PAGE_AP_USER | PAGE_XN)

/* The window's pages of a vCPU: two of code, one after the other, then one of code before one of data. */
enum { FIRST_PAGE, SECOND_PAGE, LITERAL_CODE_PAGE, LITERAL_DATA_PAGE, PAGES_EACH };

static uint32_t ram[MAX_VCPUS][SLICE_WORDS] ALIGNED(4096) NOINIT; /* what the device is compared with */
static uint8_t code_frames[MAX_VCPUS][2][PAGE_BYTES] ALIGNED(4096) NOINIT;
static struct vcpu {
    struct context in, out[2];
    struct context *current;           /* where an exception leaves the state; 0 outside cases */
    uint32_t pattern[SLICE_WORDS];
    uint32_t shadow[SLICE_WORDS];      /* what the device's slice holds now */
    uint32_t random;
    uint32_t complaints;
    uint32_t failed[MAX_GROUPS], run[MAX_GROUPS];
} vcpus[MAX_VCPUS];
static uint32_t seed, repetitions;

static uint32_t next_random(struct vcpu *self)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 17;
    self->random ^= self->random << 5;
    return self->random;
}

static uint32_t device_slice(unsigned id) { return RAMDEV_BASE + id * SLICE_BYTES; }

/* A case ends by an exception, the right one or not: keep its state and go back to run_context(). */
static bool end_case(struct frame *frame, unsigned kind)
{
    struct context *out = vcpus[vcpu_id()].current;

    if (!out)
        return false;
    for (unsigned i = 0; i < 13; i++)
        out->r[i] = frame->r[i];
    asm volatile("stmia %0, {sp, lr}^" :: "r"(&out->sp) : "memory");
    out->pc = frame->pc;
    out->cpsr = frame->cpsr;
    out->ended = kind;
    frame->pc = (uint32_t)run_returned;
    frame->cpsr = MODE_SVC | CPSR_MASKS;
    return true;
}

static bool on_undefined(struct frame *frame) { return end_case(frame, UNDEFINED); }
static bool on_supervisor_call(struct frame *frame) { return end_case(frame, SUPERVISOR_CALL); }
static bool on_prefetch_abort(struct frame *frame) { return end_case(frame, PREFETCH_ABORT); }
static bool on_data_abort(struct frame *frame) { return end_case(frame, DATA_ABORT); }

/* One case about to run: where its code and its base are. */
struct placement {
    uint32_t code, landing;
    uint32_t base[2]; /* on RAM and on the device */
    unsigned first, end; /* words of the slice that it may touch */
};

/* Copy a case's code to `offset` of two consecutive pages, whose frames are not consecutive. */
static void copy_code(unsigned id, const struct test_case *test, uint32_t offset)
{
    const uint16_t *source = (const uint16_t *)(test->code & ~1u);

    for (unsigned done = 0; done < test->bytes; done += 2, offset += 2) {
        uint16_t *halfword = (uint16_t *)(code_frames[id][offset / PAGE_BYTES ^ 1] + offset % PAGE_BYTES);
        *halfword = *source++;
        code_publish(halfword, 2);
    }
}

/* Returns false if this vCPU's slice is out of the case's reach. */
static bool place(unsigned id, const struct test_case *test, struct placement *place)
{
    uint32_t offset = test->flags & CASE_LITERAL ? LITERAL_BASE_OFFSET : BASE_OFFSET;
    uint32_t reach = test->flags & CASE_WIDE ? WIDE_WINDOW_BYTES : WINDOW_BYTES;
    uint32_t pages = window_page(id * PAGES_EACH);

    place->first = (offset - reach) / 4;
    place->end = (offset + reach) / 4;
    place->code = test->code;
    place->base[0] = (uint32_t)ram[id] + offset;
    place->base[1] = device_slice(id) + offset;
    if (test->flags & CASE_STRADDLE) {
        uint32_t start = PAGE_BYTES - 2 - test->prelude;
        copy_code(id, test, start);
        place->code = (pages + start) | (test->code & 1);
    } else if (test->flags & CASE_LITERAL) {
        uint32_t data = pages + LITERAL_DATA_PAGE * PAGE_BYTES;
        uint32_t base = data + id % SLICES_PER_PAGE * SLICE_BYTES + offset;
        uint32_t code = base - test->reach - (test->code & 1 ? 4 : 8);
        if (code + test->bytes > data)
            return false;
        copy_code(id, test, code % PAGE_BYTES);
        place->code = code | (test->code & 1);
        place->base[0] = place->base[1] = base;
    }
    place->landing = test->landing - test->code + place->code;
    return true;
}

/* What word `index` of the slice holds before the case. */
static uint32_t initial_word(const struct vcpu *self, const struct test_case *test, const struct placement *place,
                             unsigned index)
{
    if (test->flags & CASE_BRANCH)
        return place->landing;
    if (test->flags & CASE_RETURN)
        return index % 2 ? (self->in.cpsr ^ 0xf0000000) | (place->landing & 1 ? CPSR_T : 0)
                         : place->landing & ~1u;
    if (test->flags & CASE_TABLE)
        return test->bytes && test->name[2] == 'b' ? TABLE_OF_TWOS : TABLE_OF_TWOS & 0x00ff00ff;
    return self->pattern[index];
}

static void fill_memory(unsigned id, const struct test_case *test, const struct placement *place)
{
    struct vcpu *self = &vcpus[id];

    for (unsigned index = place->first; index < place->end; index++) {
        uint32_t word = initial_word(self, test, place, index);
        ram[id][index] = word;
        if (self->shadow[index] != word)
            write32(device_slice(id) + index * 4, word);
        self->shadow[index] = word;
    }
}

static void fill_registers(struct vcpu *self, const struct test_case *test, const struct placement *place,
                           bool zero_flag)
{
    struct context *in = &self->in;

    for (unsigned i = 0; i < 13; i++)
        in->r[i] = next_random(self);
    in->r[3] = 8;
    in->r[4] = -4u;
    in->r[10] = 2;
    in->r[12] = 16;
    in->lr = next_random(self);
    in->pc = place->code & ~1u;
    in->cpsr = (next_random(self) & 0xb0000000) | (zero_flag ? CPSR_Z : 0) | CPSR_MASKS |
               (test->code & 1 ? CPSR_T : 0) | (test->flags & CASE_USER ? MODE_USR : MODE_SYS);
    in->fpscr = next_random(self) & 0xf0000000;
    for (unsigned i = 0; i < 32; i++)
        in->d[i] = (uint64_t)next_random(self) << 32 | next_random(self);
}

static void run_on(struct vcpu *self, unsigned side, uint32_t base)
{
    self->in.r[1] = self->in.r[7] = self->in.r[8] = self->in.sp = base;
    self->current = &self->out[side];
    run_context(&self->in, &self->out[side]);
    self->current = NULL;
}

/* The same value, or a pointer to the same place of either memory. */
static bool same(const struct placement *place, uint32_t on_ram, uint32_t on_device)
{
    return on_ram == on_device || on_ram - place->base[0] == on_device - place->base[1];
}

static bool complain(unsigned id, const struct test_case *test, const char *what, unsigned index, uint32_t on_ram,
                     uint32_t on_device)
{
    if (vcpus[id].complaints++ < COMPLAINTS)
        print("mmio: vCPU %u: \"%s\": %s %u is %x on RAM and %x on the device\n", id, test->name, what, index,
              on_ram, on_device);
    return false;
}

static bool compare(unsigned id, const struct test_case *test, const struct placement *place)
{
    struct vcpu *self = &vcpus[id];
    const struct context *a = &self->out[0], *b = &self->out[1];
    bool good = true;

    if (a->ended != SUPERVISOR_CALL || b->ended != SUPERVISOR_CALL)
        return complain(id, test, "ended by exception", 0, a->ended, b->ended);
    for (unsigned i = 0; i < 13; i++)
        if (!same(place, a->r[i], b->r[i]))
            good = complain(id, test, "r", i, a->r[i], b->r[i]);
    if (!same(place, a->sp, b->sp))
        good = complain(id, test, "r", 13, a->sp, b->sp);
    if (!same(place, a->lr, b->lr))
        good = complain(id, test, "r", 14, a->lr, b->lr);
    if (a->pc != b->pc)
        good = complain(id, test, "r", 15, a->pc, b->pc);
    if (a->cpsr != b->cpsr)
        good = complain(id, test, "CPSR", 0, a->cpsr, b->cpsr);
    if (a->fpscr != b->fpscr)
        good = complain(id, test, "FPSCR", 0, a->fpscr, b->fpscr);
    for (unsigned i = 0; i < 32; i++)
        if ((uint32_t)a->d[i] != (uint32_t)b->d[i])
            good = complain(id, test, "low half of d", i, (uint32_t)a->d[i], (uint32_t)b->d[i]);
        else if (a->d[i] != b->d[i])
            good = complain(id, test, "high half of d", i, (uint32_t)(a->d[i] >> 32), (uint32_t)(b->d[i] >> 32));
    for (unsigned index = place->first; index < place->end; index++) {
        uint32_t word = read32(device_slice(id) + index * 4);
        self->shadow[index] = word;
        if (!same(place, ram[id][index], word))
            good = complain(id, test, "word", index, ram[id][index], word);
    }
    return good;
}

static void map_literal_data(unsigned id, uint32_t address)
{
    unsigned page = id * PAGES_EACH + LITERAL_DATA_PAGE;

    window_unmap(page);
    tlb_invalidate_page(window_page(page));
    window_map(page, (const void *)(address & ~(PAGE_BYTES - 1)), UNCACHED_ATTRIBUTES);
    dsb();
    isb();
}

static void run_case(unsigned id, unsigned group, const struct test_case *test, bool zero_flag)
{
    struct vcpu *self = &vcpus[id];
    struct placement placement;

    if (!place(id, test, &placement))
        return;
    fill_registers(self, test, &placement, zero_flag);
    fill_memory(id, test, &placement);
    if (test->flags & CASE_LITERAL)
        map_literal_data(id, (uint32_t)ram[id]);
    run_on(self, 0, placement.base[0]);
    if (test->flags & CASE_LITERAL)
        map_literal_data(id, device_slice(id));
    run_on(self, 1, placement.base[1]);
    self->run[group]++;
    self->failed[group] += !compare(id, test, &placement);
}

static void play(unsigned id)
{
    struct vcpu *self = &vcpus[id];
    unsigned first_page = id * PAGES_EACH;

    self->random = seed * (2 * id + 1) | 1;
    for (unsigned index = 0; index < SLICE_WORDS; index++) {
        self->pattern[index] = self->shadow[index] = next_random(self);
        write32(device_slice(id) + index * 4, self->shadow[index]);
        ram[id][index] = self->pattern[index];
    }
    window_map(first_page + FIRST_PAGE, code_frames[id][1], CODE_ATTRIBUTES);
    window_map(first_page + SECOND_PAGE, code_frames[id][0], CODE_ATTRIBUTES);
    window_map(first_page + LITERAL_CODE_PAGE, code_frames[id][1], CODE_ATTRIBUTES);
    dsb();
    isb();
    for (uint32_t repetition = 0; repetition < repetitions; repetition++) {
        unsigned group = -1u;
        for (const struct test_case *test = cases_start; test < cases_end; test++) {
            if (!test->code) {
                group++;
                continue;
            }
            run_case(id, group, test, false);
            if (test->flags & CASE_BOTH)
                run_case(id, group, test, true);
        }
    }
}

static uint32_t report(void)
{
    uint32_t all_failed = 0;
    unsigned group = 0;

    for (const struct test_case *test = cases_start; test < cases_end; test++) {
        uint32_t run = 0, failed = 0;
        if (test->code)
            continue;
        for (unsigned id = 0; id < vcpu_count(); id++) {
            run += vcpus[id].run[group];
            failed += vcpus[id].failed[group];
        }
        print("result: guest=mmio group=\"%s\" run=%u failed=%u\n", test->name, run, failed);
        all_failed += failed;
        group++;
    }
    return all_failed;
}

#ifndef QEMU
/* Run one instruction on the counting device; true if the device saw just as many accesses as it should. */
#define COUNTED(expected, instruction) ({ \
    uint32_t base_ = COUNTER_BASE + 64, count_; \
    write32(COUNTER_BASE + 0xffc, 0); \
    asm volatile(instruction : "+r"(base_) :: "r2", "r3", "r4", "r5", "memory", "cc"); \
    count_ = read32(COUNTER_BASE); \
    if (count_ != (expected)) \
        print("mmio: %u accesses by %s instead of %u\n", count_, instruction, expected); \
    count_ == (expected); })

/* No access may be made twice, or be left out. Alone, as the counter counts for all vCPUs. */
static uint32_t count_accesses(void)
{
    uint32_t failed = 0;

    failed += !COUNTED(1u, "ldr r2, [%0]");
    failed += !COUNTED(1u, "str r2, [%0]");
    failed += !COUNTED(1u, "ldr r2, [%0], #4");
    failed += !COUNTED(1u, "strb r2, [%0, #4]!");
    failed += !COUNTED(2u, "ldrd r2, r3, [%0], #8");
    failed += !COUNTED(3u, "ldm %0!, {r2, r3, r4}");
    failed += !COUNTED(4u, "stmdb %0!, {r2, r3, r4, r5}");
    failed += !COUNTED(2u, "swp r2, r3, [%0]");
    failed += !COUNTED(2u, "ldrex r2, [%0]\n strex r3, r2, [%0]");
    failed += !COUNTED(0u, "clrex\n strex r3, r2, [%0]");
    print("result: guest=mmio group=\"counted\" run=10 failed=%u\n", failed);
    return failed;
}
#else
static uint32_t count_accesses(void) { return 0; }
#endif

int main(void)
{
    seed = testdev_random();
    repetitions = testdev_parameter(1);
    exception_handlers[UNDEFINED] = on_undefined;
    exception_handlers[SUPERVISOR_CALL] = on_supervisor_call;
    exception_handlers[PREFETCH_ABORT] = on_prefetch_abort;
    exception_handlers[DATA_ABORT] = on_data_abort;
    mmu_enable();
    mmu_map_uncached(RAMDEV_BASE);
    on_all_vcpus(play);
    return (report() | count_accesses()) != 0;
}
