/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watchpoints on data, by virtual address.
 *
 * The library still has the places where QEMU looks at watchpoints: a translation that is entered into the TLB is marked when
 * the page holds one, an access by a marked translation takes the slow path and asks. Only what is asked is empty there, and
 * is defined here. So without watchpoints no access costs more than before, and with some only those to their pages do.
 *
 * An access is stopped before it is made, as if it had faulted: PC and ITSTATE are exact. vcpu.c then executes that one
 * instruction with watchpoints suspended, and reports.
 */
#include "seam_watch.h"

#include <string.h>

#include "seam_library.h"

static uc_engine *engine;
static struct seam_watchpoint watchpoints[SEAM_WATCHPOINTS];
static unsigned watchpoint_count;
static bool suspended;
static bool hit;
static uint32_t hit_address;
static bool hit_is_write;

void seam_watch_attach(uc_engine *of)
{
    engine = of;
    watchpoint_count = 0;
    suspended = hit = false;
}

void seam_set_watchpoints(const struct seam_watchpoint *wanted, unsigned n)
{
    memcpy(watchpoints, wanted, n * sizeof *wanted);
    watchpoint_count = n;
    seam_flush_tlb();
}

void seam_suspend_stops(bool yes)
{
    suspended = yes;
}

bool seam_stops_suspended(void)
{
    return suspended;
}

bool seam_is_at_watchpoint(uint32_t *address, bool *is_write)
{
    bool was = hit;
    hit = false;
    *address = hit_address;
    *is_write = hit_is_write;
    return was;
}

static bool overlaps(const struct seam_watchpoint *w, uint64_t address, uint64_t bytes)
{
    return address < (uint64_t)w->address + w->bytes && w->address < address + bytes;
}

static void check(void *cpu, uint64_t address, uint64_t bytes, int kinds, uintptr_t host_pc)
{
    for (unsigned i = 0; !suspended && i < watchpoint_count; i++) {
        const struct seam_watchpoint *w = &watchpoints[i];
        if (!(w->kinds & (unsigned)kinds) || !overlaps(w, address, bytes))
            continue;
        hit = true;
        hit_address = address > w->address ? (uint32_t)address : w->address;
        hit_is_write = kinds & SEAM_WATCH_WRITE;
        uc.emu_stop(engine);
        real.loop_exit_restore(cpu, host_pc);
    }
}

/* ---- the library's own names; QEMU, hw/core/cpu.h and accel/tcg/atomic_template.h ---- */

#define INTERPOSED __attribute__((visibility("default")))

/* Reads and writes are marked alike, or neither: atomic_mmu_lookup takes a translation whose two tags differ for one of a
 * write-only page, and never comes to an end with it. */
INTERPOSED int cpu_watchpoint_address_matches_arm(void *cpu, uint64_t address, uint64_t bytes)
{
    for (unsigned i = 0; i < watchpoint_count; i++)
        if (overlaps(&watchpoints[i], address, bytes))
            return SEAM_WATCH_READ | SEAM_WATCH_WRITE;
    return 0;
}

INTERPOSED void cpu_check_watchpoint_arm(void *cpu, uint64_t address, uint64_t bytes, uint32_t attributes, int kinds,
                                         uintptr_t host_pc)
{
    check(cpu, address, bytes, kinds, host_pc);
}

/* A store-exclusive is an exchange of the host's, which asks nobody. */
#define EXCHANGE(name, type, size)                                                                                     \
    INTERPOSED type helper_atomic_cmpxchg##name##_arm(void *env, uint32_t address, type expected, type wanted,         \
                                                      uint32_t operation)                                              \
    {                                                                                                                  \
        uintptr_t host_pc = (uintptr_t)__builtin_return_address(0);                                                    \
        if (__builtin_expect(watchpoint_count != 0, false))                                                            \
            check(seam_cpu(env), address, size, SEAM_WATCH_READ | SEAM_WATCH_WRITE, host_pc);                          \
        return real.exchange_##name(env, address, expected, wanted, operation, host_pc);                               \
    }
EXCHANGE(b, uint32_t, 1)
EXCHANGE(w_le, uint32_t, 2)
EXCHANGE(w_be, uint32_t, 2)
EXCHANGE(l_le, uint32_t, 4)
EXCHANGE(l_be, uint32_t, 4)
EXCHANGE(q_le, uint64_t, 8)
EXCHANGE(q_be, uint64_t, 8)
