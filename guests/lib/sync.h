/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Locks and rendezvous between vCPUs. Waiting is done in WFE, so an oversubscribed host can use the core. */
#ifndef SYNC_H
#define SYNC_H

#include "guest.h"

static inline uint32_t load_acquire(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void store_release(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/* Add to a shared word with LDREX/STREX, no ordering implied. Returns the value before. */
static inline uint32_t exclusive_add(uint32_t *word, uint32_t addend)
{
    uint32_t old, sum, failed;
    asm volatile(
        "1: ldrex %0, [%3]\n"
        "   add %1, %0, %4\n"
        "   strex %2, %1, [%3]\n"
        "   cmp %2, #0\n"
        "   bne 1b\n"
        : "=&r"(old), "=&r"(sum), "=&r"(failed) : "r"(word), "r"(addend) : "cc", "memory");
    return old;
}

static inline uint32_t exclusive_swap(uint32_t *word, uint32_t value)
{
    uint32_t old, failed;
    asm volatile(
        "1: ldrex %0, [%2]\n"
        "   strex %1, %3, [%2]\n"
        "   cmp %1, #0\n"
        "   bne 1b\n"
        : "=&r"(old), "=&r"(failed) : "r"(word), "r"(value) : "cc", "memory");
    return old;
}

/* Fair lock: a number is drawn, and waited for. All zero is unlocked. */
struct ticket_lock {
    uint32_t next;
    uint32_t owner;
};

void ticket_acquire(struct ticket_lock *lock);
void ticket_release(struct ticket_lock *lock);

/* Mellor-Crummey and Scott's queue lock: each waiter spins on its own node. */
struct mcs_node {
    uint32_t next; /* address of the successor's node */
    uint32_t waiting;
} ALIGNED(64);

struct mcs_lock {
    uint32_t tail; /* address of the last waiter's node */
};

void mcs_acquire(struct mcs_lock *lock, struct mcs_node *node);
void mcs_release(struct mcs_lock *lock, struct mcs_node *node);

/* Rendezvous of a fixed number of vCPUs, reusable at once. All zero is ready. */
struct barrier {
    uint32_t arrived;
    uint32_t generation;
};

void barrier_wait(struct barrier *barrier, unsigned vcpus);

#endif
