/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watchpoints on data, by virtual address.
 *
 * The library still has the places where QEMU looks at watchpoints: a translation that is entered into the TLB is
 * marked when its page holds one, and an access by a marked translation takes the slow path and asks. Only the
 * functions that it asks are empty, and are defined here. So without watchpoints no access costs more than before, and
 * with some only accesses to their pages do.
 *
 * An access is stopped before it is made, as if it had faulted: PC and ITSTATE are exact. run/run.c then executes that
 * one instruction with watchpoints suspended, and reports.
 */
#include "vcpu_worker/engine/interpose/watch.h"

#include <string.h>

#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/library.h"
#include "vcpu_worker/engine/interpose/state.h"

void interpose_set_watchpoints(struct interpose *s, const struct watchpoint *wanted, unsigned n)
{
    memcpy(s->watch.points, wanted, n * sizeof *wanted);
    s->watch.count = n;
    interpose_flush_tlb(s);
}

void interpose_suspend_stops(struct interpose *s, bool yes)
{
    s->watch.suspended = yes;
}

bool interpose_is_at_watchpoint(struct interpose *s, uint32_t *address, bool *is_write)
{
    bool was = s->watch.hit;
    s->watch.hit = false;
    *address = s->watch.hit_address;
    *is_write = s->watch.hit_is_write;
    return was;
}

static bool overlaps(const struct watchpoint *w, uint64_t address, uint64_t bytes)
{
    return address < (uint64_t)w->address + w->bytes && w->address < address + bytes;
}

static void check(void *cpu, uint64_t address, uint64_t bytes, int kinds, uintptr_t host_pc)
{
    struct interpose *s = interpose_current;
    struct watch *watch = &s->watch;
    for (unsigned i = 0; !watch->suspended && i < watch->count; i++) {
        const struct watchpoint *w = &watch->points[i];
        if (!(w->kinds & (unsigned)kinds) || !overlaps(w, address, bytes))
            continue;
        watch->hit = true;
        watch->hit_address = address > w->address ? (uint32_t)address : w->address;
        watch->hit_is_write = kinds & WATCH_WRITE;
        uc.emu_stop(s->uc);
        real.loop_exit_restore(cpu, host_pc);
    }
}

/* ---- the library's own names; QEMU, hw/core/cpu.h and accel/tcg/atomic_template.h ---- */

/* Reads and writes are marked alike, or neither: atomic_mmu_lookup takes a translation whose two tags differ for that
 * of a write-only page, and loops forever. */
INTERPOSED int cpu_watchpoint_address_matches_arm(void *cpu, uint64_t address, uint64_t bytes)
{
    const struct watch *watch = &interpose_current->watch;
    for (unsigned i = 0; i < watch->count; i++)
        if (overlaps(&watch->points[i], address, bytes))
            return WATCH_READ | WATCH_WRITE;
    return 0;
}

INTERPOSED void cpu_check_watchpoint_arm(void *cpu, uint64_t address, uint64_t bytes, uint32_t attributes, int kinds,
                                         uintptr_t host_pc)
{
    check(cpu, address, bytes, kinds, host_pc);
}

/* A store-exclusive is an exchange of the host's, which does not ask. */
#define EXCHANGE(name, type, size)                                                                                     \
    INTERPOSED type helper_atomic_cmpxchg##name##_arm(void *env, uint32_t address, type expected, type wanted,         \
                                                      uint32_t operation)                                              \
    {                                                                                                                  \
        uintptr_t host_pc = (uintptr_t)__builtin_return_address(0);                                                    \
        if (__builtin_expect(interpose_current->watch.count != 0, false))                                              \
            check(interpose_cpu_of(env), address, size, WATCH_READ | WATCH_WRITE, host_pc);                            \
        return real.exchange_##name(env, address, expected, wanted, operation, host_pc);                               \
    }
EXCHANGE(b, uint32_t, 1)
EXCHANGE(w_le, uint32_t, 2)
EXCHANGE(w_be, uint32_t, 2)
EXCHANGE(l_le, uint32_t, 4)
EXCHANGE(l_be, uint32_t, 4)
EXCHANGE(q_le, uint64_t, 8)
EXCHANGE(q_be, uint64_t, 8)
