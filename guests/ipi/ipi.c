/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Software-generated interrupts: masked and unmasked, by priority, nested; ping-pong between pairs; a ring; one to
 * all. No vCPU polls: each sleeps in WFI with IRQs masked and lets the pending one in, so a lost interrupt or
 * a lost wake-up stops the run for good. The parameter is the number of ping-pong rounds and laps of the ring.
 */
#include "gic.h"
#include "mmu.h"
#include "sync.h"

#define ROUNDS 200u

/* What the SGIs mean. */
enum { PING = 1, PONG, RING, MASKED, LOW, HIGH, OUTER, INNER, ALL, SGIS };

static struct vcpu {
    volatile uint32_t taken[SGIS];
    volatile uint32_t order[4]; /* the SGIs of the priority check as they were handled */
    volatile uint32_t ordered;
    uint32_t target;
    uint32_t failed;
} ALIGNED(64) vcpus[GIC_MAX_VCPUS];

static struct barrier barrier;
static unsigned active;
static uint32_t rounds;

static void note_order(struct vcpu *self, unsigned sgi)
{
    if (self->ordered < 4)
        self->order[self->ordered++] = sgi;
}

/* A higher priority comes in while OUTER is active, a lower one does not. */
static void handle_outer(struct vcpu *self)
{
    gic_send_sgi_to_self(LOW);
    gic_send_sgi_to_self(INNER);
    irq_enable();
    while (!self->taken[INNER])
        yield();
    irq_disable();
    note_order(self, OUTER);
}

static bool handle_irq(struct frame *frame)
{
    unsigned id = vcpu_id();
    struct vcpu *self = &vcpus[id];
    uint32_t acknowledged = gic_acknowledge();
    unsigned sgi = gic_intid(acknowledged);

    (void)frame;
    if (sgi == GIC_SPURIOUS)
        return true;
    if (sgi == 0 || sgi >= SGIS) {
        print("ipi: vCPU %u took unknown interrupt %u\n", id, sgi);
        self->failed = 1;
        gic_end(acknowledged);
        return true;
    }
    switch (sgi) {
    case PING: gic_send_sgi(1u << gic_sender(acknowledged), PONG); break;
    case RING:
        if (id != 0 || self->taken[RING] + 1 < rounds)
            gic_send_sgi(vcpus[(id + 1) % active].target, RING);
        break;
    case OUTER: handle_outer(self); break;
    case LOW:
    case HIGH:
    case INNER: note_order(self, sgi); break;
    }
    self->taken[sgi]++;
    gic_end(acknowledged);
    return true;
}

static void wait_until_taken(struct vcpu *self, unsigned sgi, uint32_t count)
{
    while (self->taken[sgi] < count) {
        wfi();
        irq_enable();
        isb();
        irq_disable();
    }
}

static void expect(struct vcpu *self, const char *what, bool holds)
{
    if (holds)
        return;
    print("ipi: vCPU %u: %s\n", vcpu_id(), what);
    self->failed = 1;
}

static void check_mask(struct vcpu *self)
{
    gic_set_priority_mask(0x40);
    gic_send_sgi_to_self(MASKED);
    expect(self, "a masked SGI is not pending", gic_pending_sgis() & 1u << MASKED);
    expect(self, "a masked SGI could be acknowledged", gic_intid(gic_acknowledge()) == GIC_SPURIOUS);
    irq_enable();
    for (unsigned i = 0; i < 1000; i++)
        yield();
    expect(self, "an SGI came in below the priority mask", self->taken[MASKED] == 0);
    irq_disable();
    gic_set_priority_mask(GIC_OPEN);
    wait_until_taken(self, MASKED, 1);
}

static void check_priorities(struct vcpu *self)
{
    gic_set_sgi_priority(HIGH, 0x20);
    gic_set_sgi_priority(INNER, 0x20);
    gic_set_sgi_priority(OUTER, 0x60);
    gic_set_sgi_priority(LOW, 0xa0);
    gic_send_sgi_to_self(LOW);
    gic_send_sgi_to_self(HIGH);
    expect(self, "two SGIs are not pending", gic_pending_sgis() == (1u << LOW | 1u << HIGH));
    wait_until_taken(self, LOW, 1);
    expect(self, "the lower priority came first", self->order[0] == HIGH && self->order[1] == LOW);

    self->ordered = 0;
    gic_send_sgi_to_self(OUTER);
    wait_until_taken(self, LOW, 2);
    expect(self, "preemption went wrong",
           self->order[0] == INNER && self->order[1] == OUTER && self->order[2] == LOW);
    expect(self, "a priority is still running", gic_running_priority() == 0xff);
}

static void play_pairs(unsigned id, struct vcpu *self)
{
    unsigned partner = id ^ 1;

    if (partner >= active)
        return;
    if (id & 1) {
        wait_until_taken(self, PING, rounds);
        return;
    }
    for (uint32_t round = 1; round <= rounds; round++) {
        gic_send_sgi(vcpus[partner].target, PING);
        wait_until_taken(self, PONG, round);
    }
}

static void play_all(unsigned id, struct vcpu *self)
{
    for (uint32_t round = 1; round <= 10; round++) {
        if (id == 0)
            gic_send_sgi_to_others(ALL);
        else
            wait_until_taken(self, ALL, round);
        barrier_wait(&barrier, active);
    }
}

static void play(unsigned id)
{
    struct vcpu *self = &vcpus[id];

    if (id >= active)
        vcpu_retire();
    gic_init_interface();
    self->target = gic_own_target();
    barrier_wait(&barrier, active);
    check_mask(self);
    check_priorities(self);
    barrier_wait(&barrier, active);
    play_pairs(id, self);
    barrier_wait(&barrier, active);
    if (id == 0)
        gic_send_sgi(vcpus[1 % active].target, RING);
    wait_until_taken(self, RING, rounds);
    barrier_wait(&barrier, active);
    play_all(id, self);
}

int main(void)
{
    uint32_t pings = 0, pongs = 0, rings = 0, alls = 0, failed = 0;

    rounds = testdev_parameter(ROUNDS);
    active = vcpu_count() < GIC_MAX_VCPUS ? vcpu_count() : GIC_MAX_VCPUS;
    exception_handlers[IRQ] = handle_irq;
    mmu_enable();
    gic_init_distributor();
    on_all_vcpus(play);
    for (unsigned id = 0; id < active; id++) {
        pings += vcpus[id].taken[PING];
        pongs += vcpus[id].taken[PONG];
        rings += vcpus[id].taken[RING];
        alls += vcpus[id].taken[ALL];
        failed |= vcpus[id].failed;
    }
    print("result: guest=ipi vcpus=%u pings=%u pongs=%u rings=%u all=%u\n", active, pings, pongs, rings, alls);
    return failed || pings != active / 2 * rounds || pongs != pings || rings != active * rounds ||
           alls != (active - 1) * 10;
}
