/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared counters: under a ticket lock, with bare LDREX/STREX, under an MCS lock. A lost exclusive or a missing
 * barrier loses increments. The parameter sets the increments that each vCPU makes under each lock; the exclusive
 * counter gets EXCLUSIVE_FACTOR times as many.
 */
#include "guest.h"
#include "mmu.h"
#include "sync.h"

#define LOCKED_INCREMENTS 20000u
#define EXCLUSIVE_FACTOR 50u

static struct ticket_lock ticket ALIGNED(64);
static struct mcs_lock mcs ALIGNED(64);
static struct mcs_node mcs_nodes[MAX_VCPUS];
/* Plain: only the locks keep these right. */
static volatile uint32_t ticket_counter ALIGNED(64), mcs_counter ALIGNED(64);
static uint32_t exclusive_counter ALIGNED(64);
static struct barrier start; /* or the first vCPU might be done before the last one begins */
static uint32_t increments;

/* Slow enough for another vCPU to come in between, if the lock lets it. */
static void increment_slowly(volatile uint32_t *counter)
{
    uint32_t value = *counter;

    for (unsigned delay = 50; delay; delay--)
        asm volatile("");
    *counter = value + 1;
}

static void count_under_ticket(unsigned id)
{
    (void)id;
    barrier_wait(&start, vcpu_count());
    for (uint32_t i = 0; i < increments; i++) {
        ticket_acquire(&ticket);
        increment_slowly(&ticket_counter);
        ticket_release(&ticket);
    }
}

static void count_exclusively(unsigned id)
{
    (void)id;
    barrier_wait(&start, vcpu_count());
    for (uint32_t i = 0; i < increments * EXCLUSIVE_FACTOR; i++)
        exclusive_add(&exclusive_counter, 1);
}

static void count_under_mcs(unsigned id)
{
    barrier_wait(&start, vcpu_count());
    for (uint32_t i = 0; i < increments; i++) {
        mcs_acquire(&mcs, &mcs_nodes[id]);
        increment_slowly(&mcs_counter);
        mcs_release(&mcs, &mcs_nodes[id]);
    }
}

static int report(const char *name, uint32_t count, uint32_t expected)
{
    print("result: guest=smp-counter counter=%s count=%u expected=%u\n", name, count, expected);
    return count != expected;
}

int main(void)
{
    int failed = 0;

    increments = testdev_parameter(LOCKED_INCREMENTS);
    mmu_enable();
    on_all_vcpus(count_under_ticket);
    failed |= report("ticket", ticket_counter, increments * vcpu_count());
    on_all_vcpus(count_exclusively);
    failed |= report("exclusive", exclusive_counter, increments * EXCLUSIVE_FACTOR * vcpu_count());
    on_all_vcpus(count_under_mcs);
    failed |= report("mcs", mcs_counter, increments * vcpu_count());
    return failed;
}
