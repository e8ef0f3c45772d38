/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same work on two machines: this one, and QEMU's virt board (-M virt,gic-version=2 -cpu cortex-a15), from one
 * image. What a line says was timed by the guest itself, by the virtual counter.
 *
 * The parameter is count << 8 | operation (below): rounds for what is computed, samples for what is timed singly.
 */
#include "gic.h"
#include "mmu.h"
#include "sync.h"
#include "work.h"

#define MAX_SAMPLES 65536u
#define WARM_UP 20u
#define CHUNK 10000u /* rounds of computing between two looks: some microseconds */
#define SETTLE_TICKS 6250u /* 100 us: until a vCPU that is about to sleep does */
#define PL011_FR 0x09000018u

enum operation {
    OP_CALLS = 1, OP_MEMORY, OP_BRANCHES, OP_MIXED, /* the same on every vCPU, each by itself */
    OP_ADD_OWN, OP_ADD_SHARED, OP_DMB_OWN, OP_DMB_SHARED, /* exclusives and barriers */
    OP_TLBI,      /* TLBIMVAIS and DSB on vCPU 0 while the others compute */
    OP_SGI,       /* from the write that sends it to the handler, on vCPU 1, which computes */
    OP_SGI_IDLE,  /* the same, to a vCPU in WFI */
    OP_SGI_ALL,   /* to all others, which are in WFI, until the last has entered its handler */
    OP_MMIO,      /* read a register of the PL011, the others are off */
    OP_MMIO_ALL,  /* the same while all others do it as well */
    OP_BUSY,      /* compute on all vCPUs, without end */
    OP_FIRST,     /* one line, at once */
    OPERATIONS
};

static uint32_t count;
static struct barrier together;
static uint32_t done;
static uint32_t samples[MAX_SAMPLES] NOINIT;

static struct own {
    uint64_t began, ended;
    uint32_t check;
    uint32_t word ALIGNED(64);   /* its own cache line */
    uint32_t chunks ALIGNED(64); /* of computing, so far */
    uint32_t entered;            /* its interrupt handler, so often */
    uint32_t sleeps;             /* it is about to sleep, for the so manieth time */
    uint64_t entered_at;
} ALIGNED(64) own[MAX_VCPUS];
static uint32_t shared[2] ALIGNED(64);

static inline uint64_t counter(void)
{
    uint32_t low, high;

    asm volatile("isb\n\tmrrc p15, 1, %0, %1, c14" : "=r"(low), "=r"(high) :: "memory"); /* CNTVCT */
    return (uint64_t)high << 32 | low;
}

/* Ticks in nanoseconds, at the 62.5 MHz of both boards. */
static uint32_t nanoseconds(uint32_t ticks)
{
    return ticks * (1000000000u / CP15_READ(0, c14, c0, 0));
}

static void compute(unsigned id)
{
    for (uint32_t value = id; !load_acquire(&done); store_release(&own[id].chunks, own[id].chunks + 1))
        for (unsigned i = 0; i < CHUNK; i++)
            asm volatile("add %0, %0, %0, ror #7" : "+r"(value));
}

/* As in guests/latency: an operation should find the others in the guest, also where cores are few. */
static void let_others_compute(void)
{
    uint32_t seen[MAX_VCPUS];

    for (unsigned id = 1; id < vcpu_count(); id++)
        seen[id] = load_acquire(&own[id].chunks);
    for (unsigned id = 1; id < vcpu_count(); id++)
        while (load_acquire(&own[id].chunks) == seen[id])
            wfe();
}

/* ---- what is computed: all vCPUs at once, from the first to begin to the last to end ---- */

static uint32_t add_own(unsigned id, uint32_t rounds)
{
    own[id].word = 0;
    while (rounds--)
        exclusive_add(&own[id].word, 1);
    return own[id].word;
}

static uint32_t add_shared(unsigned id, uint32_t rounds)
{
    (void)id;
    while (rounds--)
        exclusive_add(&shared[0], 1);
    return 0;
}

static uint32_t dmb_between(volatile uint32_t *mine, volatile uint32_t *other, uint32_t rounds)
{
    for (uint32_t round = 1; round <= rounds; round++) {
        *mine = round;
        dmb();
        (void)*other;
        dmb();
    }
    return *mine;
}

static uint32_t dmb_own(unsigned id, uint32_t rounds) { return dmb_between(&own[id].word, &own[id].word, rounds); }

static uint32_t dmb_shared(unsigned id, uint32_t rounds)
{
    return dmb_between(&shared[id & 1], &shared[~id & 1], rounds);
}

static const struct work {
    const char *name;
    uint32_t (*perform)(unsigned id, uint32_t rounds);
} works[] = {
    [OP_CALLS] = { "calls", work_calls },
    [OP_MEMORY] = { "memory", work_memory },
    [OP_BRANCHES] = { "branches", work_branches },
    [OP_MIXED] = { "mixed", work_mixed },
    [OP_ADD_OWN] = { "add_own", add_own },
    [OP_ADD_SHARED] = { "add_shared", add_shared },
    [OP_DMB_OWN] = { "dmb_own", dmb_own },
    [OP_DMB_SHARED] = { "dmb_shared", dmb_shared },
};
static const struct work *work;

static void perform(unsigned id)
{
    work->perform(id, count / 8 + 1); /* translated by then */
    barrier_wait(&together, vcpu_count());
    own[id].began = counter();
    own[id].check = work->perform(id, count);
    own[id].ended = counter();
}

static int compute_and_report(void)
{
    on_all_vcpus(perform);
    uint64_t began = own[0].began, ended = own[0].ended;
    uint32_t check = own[0].check;
    for (unsigned id = 1; id < vcpu_count(); id++) {
        if (own[id].began < began)
            began = own[id].began;
        if (own[id].ended > ended)
            ended = own[id].ended;
        check = check * 31 + own[id].check;
    }
    if (work->perform == add_shared)
        check = shared[0] - vcpu_count() * (count / 8 + 1 + count);
    print("result: guest=peers operation=%s vcpus=%u rounds=%u ticks=%u hertz=%u check=%x\n", work->name, vcpu_count(),
          count, (uint32_t)(ended - began), CP15_READ(0, c14, c0, 0), check);
    return 0;
}

/* ---- what is timed singly ---- */

static void sift(uint32_t root, uint32_t end)
{
    uint32_t value = samples[root];

    for (uint32_t child; (child = 2 * root + 1) < end; root = child) {
        if (child + 1 < end && samples[child + 1] > samples[child])
            child++;
        if (samples[child] <= value)
            break;
        samples[root] = samples[child];
    }
    samples[root] = value;
}

static void sort(void)
{
    for (uint32_t root = count / 2; root--;)
        sift(root, count);
    for (uint32_t end = count; end-- > 1;) {
        uint32_t largest = samples[0];
        samples[0] = samples[end];
        samples[end] = largest;
        sift(0, end);
    }
}

static int report(const char *name)
{
    sort();
    print("result: guest=peers operation=%s vcpus=%u samples=%u min_ns=%u p50_ns=%u p99_ns=%u\n", name, vcpu_count(),
          count, nanoseconds(samples[0]), nanoseconds(samples[(count * 50 + 99) / 100 - 1]),
          nanoseconds(samples[(count * 99 + 99) / 100 - 1]));
    return 0;
}

static void keep(uint32_t round, uint64_t ticks)
{
    if (round >= WARM_UP)
        samples[round - WARM_UP] = (uint32_t)ticks;
}

static void invalidate(unsigned id)
{
    if (id != 0) {
        compute(id);
        return;
    }
    for (uint32_t round = 0; round < WARM_UP + count; round++) {
        let_others_compute();
        uint64_t before = counter();
        CP15_WRITE(0, c8, c3, 1, window_page(round % WINDOW_PAGES)); /* TLBIMVAIS */
        dsb();
        keep(round, counter() - before);
    }
    store_release(&done, 1);
}

static bool handle_irq(struct frame *frame)
{
    uint64_t now = counter();
    unsigned id = vcpu_id();
    uint32_t acknowledged = gic_acknowledge();

    (void)frame;
    if (gic_intid(acknowledged) == GIC_SPURIOUS)
        return true;
    gic_end(acknowledged);
    own[id].entered_at = now;
    store_release(&own[id].entered, own[id].entered + 1);
    return true;
}

static void sleep_until_done(unsigned id)
{
    irq_disable();
    while (!load_acquire(&done)) {
        store_release(&own[id].sleeps, own[id].sleeps + 1);
        sev();
        wfi();
        irq_enable();
        isb();
        irq_disable();
    }
}

static void wait_ticks(uint32_t ticks)
{
    uint64_t from = counter();

    while (counter() - from < ticks)
        wfe();
}

static enum operation operation;

/* The vCPUs that take part: all, or the first two; others do nothing. */
static void interrupt(unsigned id)
{
    unsigned parties = operation == OP_SGI_ALL ? vcpu_count() : 2;

    if (id >= parties)
        return;
    gic_init_interface();
    if (id != 0) {
        irq_enable();
        barrier_wait(&together, parties);
        if (operation == OP_SGI)
            compute(id);
        else
            sleep_until_done(id);
        irq_disable();
        return;
    }
    barrier_wait(&together, parties);
    for (uint32_t round = 0; round < WARM_UP + count; round++) {
        for (unsigned other = 1; other < parties; other++)
            if (operation == OP_SGI)
                for (uint32_t seen = load_acquire(&own[other].chunks); load_acquire(&own[other].chunks) == seen;)
                    wfe();
            else
                while (load_acquire(&own[other].sleeps) != round + 1)
                    wfe();
        if (operation != OP_SGI)
            wait_ticks(SETTLE_TICKS);
        uint64_t before = counter(), last = 0;
        if (operation == OP_SGI_ALL)
            gic_send_sgi_to_others(1);
        else
            gic_send_sgi(2, 1);
        for (unsigned other = 1; other < parties; other++) {
            while (load_acquire(&own[other].entered) != round + 1)
                wfe();
            dmb();
            if (own[other].entered_at > last)
                last = own[other].entered_at;
        }
        keep(round, last - before);
    }
    store_release(&done, 1);
    gic_send_sgi_to_others(1);
}

static void read_device(unsigned id)
{
    barrier_wait(&together, vcpu_count());
    if (id != 0) {
        while (!load_acquire(&done))
            (void)read32(PL011_FR);
        return;
    }
    for (uint32_t round = 0; round < WARM_UP + count; round++) {
        uint64_t before = counter();
        (void)read32(PL011_FR);
        keep(round, counter() - before);
    }
    store_release(&done, 1);
}

static void compute_for_ever(unsigned id)
{
    if (id != 0) {
        compute(id);
        return;
    }
    let_others_compute();
    print("busy: vcpus=%u\n", vcpu_count());
    compute(id);
}

int main(void)
{
    uint32_t parameter = testdev_parameter(1000u << 8 | OP_MIXED);

    operation = parameter & 0xff;
    count = parameter >> 8;
    if (operation == OP_FIRST) {
        print("first: vcpus=%u\n", vcpu_count());
        return 0;
    }
    if (operation == 0 || operation >= OPERATIONS || count == 0) {
        print("there is no operation %u, or it is to be done never\n", operation);
        return 1;
    }
    exception_handlers[IRQ] = handle_irq;
    mmu_enable();
    gic_init_distributor();
    if (operation <= OP_DMB_SHARED) {
        work = &works[operation];
        return compute_and_report();
    }
    if (count > MAX_SAMPLES)
        count = MAX_SAMPLES;
    switch (operation) {
    case OP_TLBI:
        on_all_vcpus(invalidate);
        return report("tlbi");
    case OP_SGI:
    case OP_SGI_IDLE:
    case OP_SGI_ALL:
        if (vcpu_count() < 2 || vcpu_count() > GIC_MAX_VCPUS) {
            print("a GICv2 has 8 interfaces, and an interrupt needs somebody to go to\n");
            return 1;
        }
        on_all_vcpus(interrupt);
        return report(operation == OP_SGI ? "sgi" : operation == OP_SGI_IDLE ? "sgi_idle" : "sgi_all");
    case OP_MMIO:
        for (uint32_t round = 0; round < WARM_UP + count; round++) {
            uint64_t before = counter();
            (void)read32(PL011_FR);
            keep(round, counter() - before);
        }
        return report("mmio");
    case OP_MMIO_ALL:
        on_all_vcpus(read_device);
        return report("mmio_all");
    default:
        on_all_vcpus(compute_for_ever);
        return 0;
    }
}
