/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fetch race. Accessors call a routine whose one access, on a device, has no syndrome, from a page that a swapper
 * keeps taking away, as a kernel's reclaim would: clear the entry, TLBIMVAIS, DSB, use the frame for something else,
 * and have another version of the routine in another frame, mapped at once or by the prefetch abort handler. Each call
 * must do exactly what one of the versions does; what a reused frame holds, does something else.
 *
 * A hypervisor that decodes the access by reading the page after the trap loses this race now and then:
 *
 *   accessor                    its hypervisor                  swapper
 *   ldr r6, [r5], #4  traps
 *                               translates PC: frame 0
 *                                                               clears the entry; TLBIMVAIS, DSB: done
 *                                                               writes to frame 0
 *                               reads frame 0, decodes
 *
 * vCPUs 0 to S-1 are swappers, each with two pages of code that the others share out among them; vCPU 0 alone is both.
 * The parameter: [15:0] calls by accessor; [18:16] what they call: 0 one of the following by vCPU number modulo 4, 1 ARM,
 * 2 Thumb, 3 Thumb across the two pages, 4 all three in User mode; [25:20] swappers, at most half of the vCPUs.
 */
#include "routines.h"
#include "mmu.h"

#ifdef QEMU
#define RAMDEV_BASE 0x43f00000u /* no such device there: memory, and every call is the machine's own */
#else
#define RAMDEV_BASE 0x0b100000u
#endif

#define CALLS 600u
#define COMPLAINTS 2u

#define SLICE_BYTES 256u
#define SLICE_WORDS (SLICE_BYTES / 4)
#define BASE_OFFSET 128u

#define CPSR_MASKS 0x1c0u
#define PAGE_TRANSLATION 0x7u
#define MEMORY_ATTRIBUTES (PAGE_NORMAL | PAGE_AP_USER | PAGE_XN)
#define DEVICE_ATTRIBUTES ((1u << 6) | (1u << 10) | PAGE_AP_USER | PAGE_XN) /* uncached, shareable */

enum { MIXED, ONLY_ARM, ONLY_THUMB, ONLY_STRADDLING, USER };

static page memory[MAX_VCPUS] ALIGNED(4096) NOINIT; /* stands in for the device when the versions are tried */

static struct vcpu {
    struct context in, out;
    bool calling;
    uint32_t random;
    uint32_t accesses, faults, wrong, aborts;
    uint32_t pattern[SLICE_WORDS];
    struct {
        uint32_t r[13], sp, lr;
        uint32_t index, word; /* what a store leaves, and where; SLICE_WORDS for a load */
    } expected[2][VERSIONS]; /* by instruction set */
} vcpus[MAX_VCPUS];
static uint32_t calls_each, what, swappers;

/* The call of this vCPU ends here. */
static bool end_call(struct frame *frame, unsigned kind)
{
    struct vcpu *self = &vcpus[vcpu_id()];

    if (!self->calling)
        return false;
    self->calling = false;
    for (unsigned i = 0; i < 13; i++)
        self->out.r[i] = frame->r[i];
    asm volatile("stmia %0, {sp, lr}^" :: "r"(&self->out.sp) : "memory");
    self->out.pc = frame->pc;
    self->out.cpsr = frame->cpsr;
    self->out.ended = kind;
    frame->pc = (uint32_t)call_returned;
    frame->cpsr = MODE_SVC | CPSR_MASKS;
    return true;
}

static bool on_undefined(struct frame *frame) { return end_call(frame, UNDEFINED); }
static bool on_supervisor_call(struct frame *frame) { return end_call(frame, SUPERVISOR_CALL); }
static bool on_data_abort(struct frame *frame) { return end_call(frame, DATA_ABORT); }

static bool on_prefetch_abort(struct frame *frame)
{
    if (fault_status(read_ifsr()) != PAGE_TRANSLATION || !page_fault(read_ifar()))
        return end_call(frame, PREFETCH_ABORT);
    vcpus[vcpu_id()].faults++;
    return true;
}

static uint32_t slice(unsigned id) { return window_page(DATA_PAGE + id) + id * SLICE_BYTES % PAGE_BYTES; }

static void map_data(unsigned id, uint32_t address, uint32_t attributes)
{
    window_unmap(DATA_PAGE + id);
    tlb_invalidate_page(slice(id));
    window_map(DATA_PAGE + id, (const void *)(address & ~(PAGE_BYTES - 1)), attributes);
    dsb();
    isb();
}

static void write_pattern(unsigned id)
{
    for (unsigned index = 0; index < SLICE_WORDS; index++)
        write32(slice(id) + index * 4, vcpus[id].pattern[index]);
}

/* All registers but r1 point into the slice, so even a wrong access stays in it, or faults. */
static void fill_registers(unsigned id)
{
    struct context *in = &vcpus[id].in;

    for (unsigned i = 0; i < 13; i++)
        in->r[i] = slice(id) + 12 * i;
    in->r[1] = 8;
    in->r[5] = slice(id) + BASE_OFFSET;
    in->sp = slice(id) + SLICE_BYTES - 32;
    in->lr = (uint32_t)call_landing;
}

static void call(unsigned id, uint32_t address, bool thumb, uint32_t mode)
{
    struct vcpu *self = &vcpus[id];

    self->in.pc = address;
    self->in.cpsr = mode | CPSR_MASKS | (thumb ? CPSR_T : 0);
    self->calling = true;
    call_routine(&self->in);
}

static bool returned(const struct vcpu *self)
{
    return self->out.ended == SUPERVISOR_CALL && self->out.pc == (uint32_t)call_landing + 4 &&
           self->out.cpsr == (self->in.cpsr & ~CPSR_T);
}

/* Try every version on memory, from a page that does not change; from then on the page of data is the device's. */
static void learn(unsigned id)
{
    struct vcpu *self = &vcpus[id];

    for (unsigned index = 0; index < SLICE_WORDS; index++)
        self->pattern[index] = next_random(&self->random) | 0xa0000000; /* where nothing is mapped */
    fill_registers(id);
    map_data(id, (uint32_t)memory[id], MEMORY_ATTRIBUTES);
    for (unsigned set = ARM; set <= THUMB; set++)
        for (unsigned version = 0; version < VERSIONS; version++) {
            const routine *versions = set == ARM ? arm_versions : thumb_versions;
            write_pattern(id);
            call(id, (uint32_t)versions[version], set == THUMB, MODE_SYS);
            if (!returned(self)) {
                print("swapper: vCPU %u: version %u did not return\n", id, version);
                testdev_exit(1);
            }
            for (unsigned i = 0; i < 13; i++)
                self->expected[set][version].r[i] = self->out.r[i];
            self->expected[set][version].sp = self->out.sp;
            self->expected[set][version].lr = self->out.lr;
            unsigned index = 0;
            while (index < SLICE_WORDS && read32(slice(id) + index * 4) == self->pattern[index])
                index++;
            self->expected[set][version].index = index;
            if (index < SLICE_WORDS)
                self->expected[set][version].word = read32(slice(id) + index * 4);
        }
    map_data(id, RAMDEV_BASE + id * SLICE_BYTES, DEVICE_ATTRIBUTES);
    write_pattern(id);
}

/* The version whose registers the call left; VERSIONS if there is none. */
static unsigned recognise(const struct vcpu *self, unsigned set)
{
    for (unsigned version = 0; version < VERSIONS; version++) {
        bool same = self->expected[set][version].sp == self->out.sp && self->expected[set][version].lr == self->out.lr;
        for (unsigned i = 0; i < 13; i++)
            same &= self->expected[set][version].r[i] == self->out.r[i];
        if (same)
            return version;
    }
    return VERSIONS;
}

/* Loads are known by their registers; a store must have stored what it should, and is undone. */
static bool stored_right(unsigned id, unsigned set, unsigned version)
{
    uint32_t index = vcpus[id].expected[set][version].index, address = slice(id) + index * 4;

    if (index == SLICE_WORDS)
        return true;
    if (read32(address) != vcpus[id].expected[set][version].word)
        return false;
    write32(address, vcpus[id].pattern[index]);
    return true;
}

static void complain(unsigned id, unsigned kind)
{
    const struct vcpu *self = &vcpus[id];

    print("swapper: vCPU %u: no version in %s%s does this: ended=%u pc=%x cpsr=%x sp=%x lr=%x\n", id,
          kind == ARM ? "ARM" : "Thumb", kind == STRADDLING ? " across two pages" : "", self->out.ended, self->out.pc,
          self->out.cpsr, self->out.sp, self->out.lr);
    for (unsigned i = 0; i < 13; i++)
        if (self->out.r[i] != self->in.r[i])
            print("swapper: vCPU %u: r%u %x became %x\n", id, i, self->in.r[i], self->out.r[i]);
}

static void check(unsigned id, unsigned kind)
{
    struct vcpu *self = &vcpus[id];
    unsigned set = kind == ARM ? ARM : THUMB, version;

    if (self->out.ended == DATA_ABORT) {
        self->aborts++;
        return;
    }
    version = returned(self) ? recognise(self, set) : VERSIONS;
    if (version < VERSIONS && stored_right(id, set, version))
        return;
    if (self->wrong++ < COMPLAINTS)
        complain(id, kind);
    write_pattern(id);
}

static void access_once(unsigned id, unsigned number, uint32_t turn)
{
    unsigned mode = what == MIXED ? id % 4 + 1 : what;
    unsigned kind = mode == USER ? turn % KINDS : mode - ONLY_ARM;

    call(id, routine_address(number, kind), kind != ARM, mode == USER ? MODE_USR : MODE_SYS);
    vcpus[id].accesses++;
    check(id, kind);
}

/* Memory that no call may touch is unchanged. */
static void check_rest(unsigned id)
{
    for (unsigned index = 0; index < SLICE_WORDS; index++)
        vcpus[id].wrong += read32(slice(id) + index * 4) != vcpus[id].pattern[index];
}

static void play(unsigned id)
{
    unsigned number = id < swappers ? id : (id - swappers) % swappers;
    bool alone = vcpu_count() == 1;

    if (id < swappers && !alone) {
        swap_on(number);
        return;
    }
    learn(id);
    for (uint32_t turn = 0; turn < calls_each; turn++) {
        if (alone)
            swap(number);
        access_once(id, number, turn);
        accessor_called(number);
    }
    accessor_leaves(number);
    check_rest(id);
}

int main(void)
{
    uint32_t parameter = testdev_parameter(0), seed = testdev_random();
    uint32_t accesses = 0, swaps = 0, faults = 0, wrong = 0, aborts = 0;
    unsigned n = vcpu_count(), most = n > 1 ? n / 2 : 1;

    calls_each = parameter & 0xffff ? parameter & 0xffff : CALLS;
    what = parameter >> 16 & 7;
    swappers = parameter >> 20 & 63 ? parameter >> 20 & 63 : 1;
    if (what > USER || swappers > most) {
        print("swapper: parameter %x asks for what is not there\n", parameter);
        return 1;
    }
    exception_handlers[UNDEFINED] = on_undefined;
    exception_handlers[SUPERVISOR_CALL] = on_supervisor_call;
    exception_handlers[PREFETCH_ABORT] = on_prefetch_abort;
    exception_handlers[DATA_ABORT] = on_data_abort;
    mmu_enable();
    for (unsigned id = 0; id < n; id++) {
        vcpus[id].random = seed * (2 * id + 1) | 1;
        if (id >= swappers || n == 1)
            accessor_joins(n == 1 ? 0 : (id - swappers) % swappers);
    }
    for (unsigned number = 0; number < swappers; number++)
        paging_start(number, seed * (2 * (MAX_VCPUS + number) + 1));
    on_all_vcpus(play);
    for (unsigned number = 0; number < swappers; number++)
        swaps += swap_count(number);
    for (unsigned id = 0; id < n; id++) {
        accesses += vcpus[id].accesses;
        faults += vcpus[id].faults;
        wrong += vcpus[id].wrong;
        aborts += vcpus[id].aborts;
    }
    print("result: guest=swapper vcpus=%u swappers=%u accesses=%u swaps=%u faults=%u wrong=%u aborts=%u\n", n, swappers,
          accesses, swaps, faults, wrong, aborts);
    return wrong || aborts;
}
