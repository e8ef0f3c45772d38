/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long one operation takes, from the guest instruction before it to the one after: two readings of the virtual
 * counter around each, N times, and what two readings cost by themselves is subtracted.
 *
 * The parameter is samples << 8 | operations (a bit each, below); 0 is all of them, 200 times. Bit 7 has the other
 * vCPUs compute meanwhile, in a loop that neither exits nor gives its core away; otherwise they stay off. A
 * sample count of 0 is 200.
 */
#include "gic.h"
#include "mmu.h"
#include "sync.h"

#define SAMPLES 200u
#define MAX_SAMPLES 65536u
#define WARM_UP 20u
#define BUSY (1u << 7)
#define CHUNK 10000u /* rounds of computing: some microseconds */

#define RAM_DEVICE 0x0b100000u
#define UNKNOWN_FUNCTION 0xdead0000u
#define NOT_SUPPORTED 0xffffffffu

static uint32_t samples[MAX_SAMPLES] NOINIT;
static uint32_t wanted;
static unsigned operations;
static uint32_t wrong;
static uint32_t done; /* the vCPUs that compute may end */
static struct {
    uint32_t chunks; /* of computing, so far */
} ALIGNED(64) progress[MAX_VCPUS];
static volatile uint32_t interrupts;

static inline uint64_t counter(void)
{
    uint32_t low, high;

    asm volatile("mrrc p15, 1, %0, %1, c14" : "=r"(low), "=r"(high) :: "memory"); /* CNTVCT */
    return (uint64_t)high << 32 | low;
}

/* Each operation is a function of its own, so that all have the same distance to the two readings. */

static void nothing(uint32_t round) { (void)round; }

static void mmio_read(uint32_t round)
{
    (void)round;
    wrong += read32(RAM_DEVICE) != RAM_DEVICE;
}

static void mmio_write(uint32_t round) { write32(RAM_DEVICE + 4, round); }

/* The base register is written back: such a load has no syndrome (HSR.ISV is 0). */
static void fetched_read(uint32_t round)
{
    uint32_t address = RAM_DEVICE, value;

    (void)round;
    asm volatile("ldr %0, [%1], #4" : "=r"(value), "+r"(address) :: "memory");
    wrong += value != RAM_DEVICE || address != RAM_DEVICE + 4;
}

static void hypercall(uint32_t round)
{
    register uint32_t r0 asm("r0") = UNKNOWN_FUNCTION;

    (void)round;
    asm volatile("hvc #0" : "+r"(r0) :: "r1", "r2", "r3", "memory");
    wrong += r0 != NOT_SUPPORTED;
}

static void invalidate(uint32_t round)
{
    CP15_WRITE(0, c8, c3, 1, window_page(round % WINDOW_PAGES)); /* TLBIMVAIS */
    dsb();
}

/* From the write that sends it to the first instruction after the handler has returned. */
static void interrupt(uint32_t round)
{
    uint32_t before = interrupts;

    (void)round;
    gic_send_sgi_to_self(0);
    while (interrupts == before)
        ;
}

static bool handle_irq(struct frame *frame)
{
    uint32_t acknowledged = gic_acknowledge();

    (void)frame;
    if (gic_intid(acknowledged) == GIC_SPURIOUS)
        return true;
    gic_end(acknowledged);
    interrupts++;
    return true;
}

static const struct operation {
    const char *name;
    void (*perform)(uint32_t round);
} table[] = {
    { "mmio_read", mmio_read },
    { "mmio_write", mmio_write },
    { "fetched_read", fetched_read },
    { "hypercall", hypercall },
    { "tlb_invalidate", invalidate },
    { "interrupt", interrupt },
};

#define OPERATIONS (sizeof table / sizeof *table)

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
    for (uint32_t root = wanted / 2; root--;)
        sift(root, wanted);
    for (uint32_t end = wanted; end-- > 1;) {
        uint32_t largest = samples[0];
        samples[0] = samples[end];
        samples[end] = largest;
        sift(0, end);
    }
}

/*
 * A vCPU that served a request in one round may still be outside the guest in the next, on its way back (on a host
 * with fewer cores than vCPUs it waits for one), and an operation would have no vCPU to wait for. So let each vCPU
 * compute a little first.
 */
static void let_others_enter(void)
{
    uint32_t seen[MAX_VCPUS];

    for (unsigned id = 1; id < vcpu_count(); id++)
        seen[id] = load_acquire(&progress[id].chunks);
    for (unsigned id = 1; id < vcpu_count(); id++)
        while (load_acquire(&progress[id].chunks) == seen[id])
            wfe();
}

/* The samples afterwards: sorted, in ticks of the counter. */
static void measure(void (*perform)(uint32_t round), bool others_are_busy)
{
    for (uint32_t round = 0; round < WARM_UP + wanted; round++) {
        if (others_are_busy)
            let_others_enter();
        uint64_t before = counter();
        perform(round);
        uint64_t after = counter();
        if (round >= WARM_UP)
            samples[round - WARM_UP] = (uint32_t)(after - before);
    }
    sort();
}

static uint32_t percentile(unsigned percent) { return samples[(wanted * percent + 99) / 100 - 1]; }

static uint32_t nanoseconds(uint32_t ticks, uint32_t overhead)
{
    uint32_t hertz = CP15_READ(0, c14, c0, 0); /* CNTFRQ: 62.5 MHz */

    return ticks > overhead ? (ticks - overhead) * (1000000000u / hertz) : 0;
}

static void measure_all(void)
{
    measure(nothing, false);
    uint32_t overhead = percentile(50);
    write32(RAM_DEVICE, RAM_DEVICE);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        if (!(operations >> i & 1))
            continue;
        measure(table[i].perform, operations & BUSY);
        print("result: guest=latency operation=%s samples=%u min_ns=%u p50_ns=%u p99_ns=%u overhead_ns=%u\n",
              table[i].name, wanted, nanoseconds(samples[0], overhead), nanoseconds(percentile(50), overhead),
              nanoseconds(percentile(99), overhead), nanoseconds(overhead, 0));
    }
}

static void play(unsigned id)
{
    if (id == 0) {
        measure_all();
        store_release(&done, 1);
        return;
    }
    for (uint32_t value = id; !load_acquire(&done); store_release(&progress[id].chunks, progress[id].chunks + 1))
        for (unsigned i = 0; i < CHUNK; i++)
            asm volatile("add %0, %0, %0, ror #7" : "+r"(value));
}

int main(void)
{
    operations = testdev_parameter(SAMPLES << 8 | ((1u << OPERATIONS) - 1));
    wanted = operations >> 8;
    if (wanted == 0 || wanted > MAX_SAMPLES)
        wanted = wanted ? MAX_SAMPLES : SAMPLES;
    exception_handlers[IRQ] = handle_irq;
    mmu_enable();
    gic_init_distributor();
    gic_init_interface();
    irq_enable();
    if (operations & BUSY)
        on_all_vcpus(play);
    else
        measure_all();
    if (wrong)
        print("result: guest=latency wrong=%u\n", wrong);
    return wrong != 0;
}
