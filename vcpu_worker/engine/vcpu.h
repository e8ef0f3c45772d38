/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One vCPU, whose EL2 is this process: its state, and what all floors above need of it.
 *
 * Floors, from the top: binding > run > guest_memory > cpu > this > interpose > arm. Includes and calls point down
 * only; tests/vcpu_worker/test_floors.py checks that. While a vCPU is outside the guest, `pc` and `cpsr` are the
 * guest's.
 */
#ifndef ALLSTOP_ENGINE_VCPU_H
#define ALLSTOP_ENGINE_VCPU_H

#include <signal.h>
#include <time.h>

#include "vcpu_worker/engine/exit_record.h"
#include "vcpu_worker/engine/interpose/library.h"
#include "vm/control/control_page.h"
#include "vm/journal/journal.h"
#include "vm/memory/swap_file.h"

#define PAGE_BYTES 4096u
#define PARK_NS 1000000ull    /* how long a vCPU at most keeps out of the way of a shootdown */
#define SLICE_NS 250000000ull /* how long a wait goes on without a beat */

struct interpose;

/* What becomes of a guest's next TLB invalidation, for an injected event. */
enum invalidation { INVALIDATION_GOOD, INVALIDATION_LATE, INVALIDATION_DROPPED, INVALIDATION_DOUBLED };

enum { TIMER_PHYSICAL, TIMER_VIRTUAL, TIMERS };

struct generic_timer {
    uint64_t compare; /* CVAL; CNTVOFF is 0, so that both timers count alike */
    uint64_t control; /* CTL without ISTATUS */
};

struct vcpu {
    uc_engine *uc;
    uc_context *pristine; /* the state after reset */
    struct interpose *interpose;
    bool as_shipped; /* for tests: nothing interposed, no W^X, TLB maintenance stays local */
    uint32_t number;

    struct cp_host *host;
    struct cp_vcpu *slot;
    unsigned char *ram;
    uint64_t ram_bytes;
    _Atomic uint64_t *stage2; /* the whole table file */
    uint64_t stage2_bytes;
    int swap_fd;             /* -1: nothing can be swapped out */
    struct journal *journal; /* NULL: none is kept */

    uint32_t pc, cpsr; /* the guest's, while it is outside */
    uint32_t hcr;
    uint64_t code_seen, tlb_seen; /* how far the code log and the TLB log were read */

    /* The run. */
    uint32_t ignored;     /* requests that do not keep this run out of the guest: STOP, for the owner */
    bool oversubscribed;  /* more vCPUs than cores: waiting loops give the core away */
    bool semihosting;     /* some instructions are calls to the host */
    bool calls_host;      /* this run ended by one */
    bool trapped;         /* this run ended by an exception to EL2 */
    bool latched;         /* an MMIO load waits for its value */
    bool waited_for_page; /* this exit has waited for another host's page */
    uint32_t held_entry;  /* the mode word of the guest entry in which HOLD was seen first */
    uint64_t epoch;       /* at the exit, see exit_record */
    bool settled;
    struct exit_record exit;
    struct {
        timer_t timer;
        bool is_short; /* else slices are the host scheduler's */
        volatile sig_atomic_t is_set, gave;
    } time_slice;

    /* The generic timer. */
    struct generic_timer timers[TIMERS];
    uint32_t timer_levels, timer_told; /* of the interrupt lines, bit n for timer n: as they are, as Python was told */
    uint64_t timers_armed;             /* the count for which the host's timer is set */
    timer_t host_timer;
    bool has_timer;

    /* Guest memory. */
    struct {
        uint32_t pc, page, times;
        bool execute;
    } last_toggle;                    /* the W^X toggle before this one, to see an instruction that toggles forever */
    uint32_t fault_lpae, fault_short; /* status of the last translation that failed */
    bool swap_failed; /* a page cannot be brought back: `sentence` says why, and the vCPU cannot go on */
    enum invalidation next_invalidation;

    char sentence[SENTENCE_BYTES]; /* why an operation failed */
};

/* Note in `sentence` that the engine cannot do `what`. False where there is no error. */
bool vcpu_failed(struct vcpu *v, const char *what, uc_err error);

static inline struct guest_pages vcpu_pages(const struct vcpu *v)
{
    return (struct guest_pages){ v->ram, v->ram_bytes, v->stage2, v->swap_fd };
}

static inline _Atomic uint64_t *entry_of(const struct vcpu *v, uint32_t ipa)
{
    return v->stage2 + STAGE2_PAGES_OFFSET / 8 + ((ipa - RAM_BASE) >> 12);
}

static inline bool is_in_ram(const struct vcpu *v, uint32_t ipa)
{
    return ipa >= RAM_BASE && (uint64_t)ipa - RAM_BASE < v->ram_bytes;
}

static inline bool all_is_in_ram(const struct vcpu *v, uint32_t ipa, uint64_t bytes)
{
    return is_in_ram(v, ipa) && bytes != 0 && bytes <= v->ram_bytes - (ipa - RAM_BASE);
}

/* Of several hosts, that is with a node that fetches pages. */
static inline bool has_other_hosts(const struct vcpu *v)
{
    return v->host->doorbell != 0;
}

static inline bool run_is_over(const struct vcpu *v)
{
    return atomic_load(&v->slot->requests) & CP_QUIT;
}

#endif
