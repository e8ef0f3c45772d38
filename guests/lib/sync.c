/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sync.h"

void ticket_acquire(struct ticket_lock *lock)
{
    uint32_t ticket = exclusive_add(&lock->next, 1);

    while (load_acquire(&lock->owner) != ticket)
        wfe();
    dmb();
}

void ticket_release(struct ticket_lock *lock)
{
    store_release(&lock->owner, lock->owner + 1);
    sev();
}

void mcs_acquire(struct mcs_lock *lock, struct mcs_node *node)
{
    node->next = 0;
    node->waiting = 1;
    dmb();
    struct mcs_node *before = (struct mcs_node *)exclusive_swap(&lock->tail, (uint32_t)node);
    dmb();
    if (before) {
        store_release(&before->next, (uint32_t)node);
        sev();
        while (load_acquire(&node->waiting))
            wfe();
    }
}

/* Free the lock if `node` is still the last in the queue. */
static bool mcs_leave_empty(struct mcs_lock *lock, struct mcs_node *node)
{
    uint32_t tail, failed = 1;

    dmb();
    do {
        asm volatile("ldrex %0, [%1]" : "=r"(tail) : "r"(&lock->tail) : "memory");
        if (tail != (uint32_t)node) {
            asm volatile("clrex" ::: "memory");
            return false;
        }
        asm volatile("strex %0, %1, [%2]" : "=&r"(failed) : "r"(0), "r"(&lock->tail) : "memory");
    } while (failed);
    return true;
}

void mcs_release(struct mcs_lock *lock, struct mcs_node *node)
{
    if (!load_acquire(&node->next)) {
        if (mcs_leave_empty(lock, node))
            return;
        /* The successor has swapped itself in as tail but not yet linked itself to this node. */
        while (!load_acquire(&node->next))
            wfe();
    }
    store_release(&((struct mcs_node *)node->next)->waiting, 0);
    sev();
}

void barrier_wait(struct barrier *barrier, unsigned vcpus)
{
    uint32_t generation = load_acquire(&barrier->generation);

    dmb();
    if (exclusive_add(&barrier->arrived, 1) == vcpus - 1) {
        dmb();
        barrier->arrived = 0;
        store_release(&barrier->generation, generation + 1);
        sev();
        return;
    }
    while (load_acquire(&barrier->generation) == generation)
        wfe();
}
