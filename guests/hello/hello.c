/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first sign of life: each vCPU prints one line, in the order of their numbers. The MMU stays off: nothing
 * here needs it, and exclusives on such memory, which the architecture leaves to the machine, work on ours.
 */
#include "guest.h"
#include "sync.h"

static uint32_t turn;

static void greet(unsigned id)
{
    while (load_acquire(&turn) != id)
        wfe();
    if (id)
        print("hello from vCPU %u of %u\n", id, vcpu_count());
    store_release(&turn, id + 1);
    sev();
}

int main(void)
{
    print("hello from vCPU 0 of %u\n", vcpu_count());
    on_all_vcpus(greet);
    print("result: guest=hello vcpus=%u\n", turn);
    return turn != vcpu_count();
}
