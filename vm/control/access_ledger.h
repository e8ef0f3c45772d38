/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two ledgers of a vCPU's accesses to devices, for the MMIO oracle.
 *
 *   `performed`  what the bus really did, in order. Only the device server writes it, where the bus is.
 *   `completed`  what the vCPU has seen done, in order. Only the vCPU's worker writes it, when it takes an answer.
 *
 * A vCPU has one access under way at a time, and its answer leaves the server after the entry is in `performed`. So
 * when the worker has taken an answer, both must hold the same: as many entries, and the same hash over all of them in
 * their order. The comparison does not depend on how the two came to their entries (sequence numbers, remembered
 * replies, sockets).
 */
#ifndef ALLSTOP_ACCESS_LEDGER_H
#define ALLSTOP_ACCESS_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define AL_LAST 4u /* entries that are kept, to describe a difference */

enum { AL_WRITE = 1u << 8, AL_UNASSIGNED = 1u << 9 }; /* in `shape`, above the size in bytes */

struct al_access {
    _Atomic uint64_t ipa, value, shape;
};

struct al_ledger {
    _Atomic uint64_t count;
    _Atomic uint64_t hash;
    struct al_access last[AL_LAST]; /* entry number n, from 1, is at n % AL_LAST */
    char pad[128 - 16 - AL_LAST * 24];
};
_Static_assert(sizeof(struct al_ledger) == 128, "cache lines that the two writers do not share");

/* One step of splitmix64 (Steele, Lea, Flood 2014): another order of the same words gives another hash, save by
 * chance. */
static inline uint64_t al_mix(uint64_t hash, uint64_t word)
{
    uint64_t z = (hash ^ word) + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline void al_enter(struct al_ledger *l, uint64_t ipa, uint64_t value, uint64_t shape)
{
    uint64_t size = shape & 0xff, number = atomic_load_explicit(&l->count, memory_order_relaxed) + 1;
    struct al_access *a = &l->last[number % AL_LAST];
    if (size < 8)
        value &= (1ull << 8 * size) - 1;
    atomic_store_explicit(&a->ipa, ipa, memory_order_relaxed);
    atomic_store_explicit(&a->value, value, memory_order_relaxed);
    atomic_store_explicit(&a->shape, shape, memory_order_relaxed);
    uint64_t hash = atomic_load_explicit(&l->hash, memory_order_relaxed);
    atomic_store_explicit(&l->hash, al_mix(al_mix(al_mix(hash, ipa), value), shape), memory_order_relaxed);
    atomic_store_explicit(&l->count, number, memory_order_release);
}

static inline bool al_agree(struct al_ledger *one, struct al_ledger *other)
{
    return atomic_load_explicit(&one->count, memory_order_acquire)
        == atomic_load_explicit(&other->count, memory_order_acquire)
        && atomic_load_explicit(&one->hash, memory_order_relaxed)
        == atomic_load_explicit(&other->hash, memory_order_relaxed);
}

#endif
