/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * More vCPUs than the host has cores: a relay in which all wait for the vCPU whose turn it is, and a sleeping crowd.
 *
 * The parameter is 10 * rounds + how: 0 waits by plain loads, 1 with YIELD, 2 with WFE; 3 lets all but the boot vCPU sleep in
 * WFI while that computes `rounds` times what one turn of the relay takes, a thousand times over.
 */
#include "guest.h"
#include "mmu.h"
#include "sync.h"

enum how { PLAIN, YIELD, EVENT, ASLEEP };

#define DEFAULT_PARAMETER (10u * 10 + EVENT)
#define TURN_STEPS 1000u

static uint32_t turn ALIGNED(64); /* how many turns are over; whose number it is modulo the vCPUs has the next */
static volatile uint32_t taken[MAX_VCPUS];
static uint32_t rounds;
static enum how how;

static void work(unsigned times)
{
    for (unsigned steps = times * TURN_STEPS; steps; steps--)
        asm volatile("");
}

static void wait_for_turn(uint32_t mine)
{
    while (load_acquire(&turn) != mine)
        if (how == YIELD)
            yield();
        else if (how == EVENT)
            wfe();
}

static void run_relay(unsigned id)
{
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t mine = round * vcpu_count() + id;
        wait_for_turn(mine);
        work(1);
        taken[id]++;
        store_release(&turn, mine + 1);
        sev();
    }
}

static void fall_asleep(unsigned id)
{
    if (id != 0)
        vcpu_retire();
}

int main(void)
{
    static const char *const names[] = { "plain", "yield", "event", "asleep" };
    uint32_t parameter = testdev_parameter(DEFAULT_PARAMETER);
    int failed = 0;

    how = parameter % 10;
    rounds = parameter / 10;
    if (how > ASLEEP) {
        print("parameter %u: its last digit must be 0 to 3\n", parameter);
        return 1;
    }
    mmu_enable();
    if (how == ASLEEP) {
        on_all_vcpus(fall_asleep);
        testdev_mark(1);
        for (uint32_t round = 0; round < rounds; round++)
            work(1000);
    } else {
        on_all_vcpus(run_relay);
        failed = turn != rounds * vcpu_count();
        for (unsigned id = 0; id < vcpu_count(); id++)
            failed |= taken[id] != rounds;
    }
    print("result: guest=crowd how=%s vcpus=%u rounds=%u failed=%d\n", names[how], vcpu_count(), rounds, failed);
    return failed;
}
