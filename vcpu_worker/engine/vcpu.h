/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One vCPU at EL2's side: enter the guest, leave with one exit, serve what can be served without Python. */
#ifndef ALLSTOP_VCPU_H
#define ALLSTOP_VCPU_H

#include "vm/control/control_page.h"
#include "vm/journal/journal.h"
#include "vm/memory/swap_file.h"
#include "seam.h"
#include "seam_watch.h"
#include "timers.h"

#define STAGE2_BASE 0xf0000000u      /* where the engine sees the stage-2 tables: above any guest RAM */
#define PARK_NS 1000000ull           /* how long a vCPU at most keeps out of the way of a shootdown */
#define SLICE_NS 250000000ull         /* how long a wait goes on without a beat */

/* Why run() returned. */
#define EXITS(X)                                                                                             \
    X(MMIO)      /* stage-2 data abort outside RAM with a valid syndrome: value or register latched */       \
    X(NISV)      /* the same without a syndrome, or over a page boundary: the instruction has to be fetched */ \
    X(HVC) X(SMC)                                                                                            \
    X(FETCH)     /* stage-2 instruction abort outside RAM */                                                 \
    X(WALK)      /* a stage-1 walk left RAM */                                                               \
    X(CP15)      /* a trapped register that is not served natively */                                        \
    X(REQUEST)   /* EVENT or QUIT is requested */                                                            \
    X(BUDGET)    /* the instruction budget is used up */                                                     \
    X(BREAKPOINT) /* the instruction at PC is about to be executed */                                        \
    X(TIMER)     /* the timers' interrupt lines have changed */                                              \
    X(LOST)      /* the guest takes an exception whose vector is not in memory */                            \
    X(SEMIHOSTING) /* the guest calls the host; PC is after the call */                                       \
    X(OTHER)     /* an exception to EL2 of another class */                                                  \
    X(WATCHPOINT) /* the instruction that was executed last has accessed a watched address: `hdfar` */

enum exit_kind {
#define X(name) EXIT_##name,
    EXITS(X)
#undef X
    EXIT_KINDS
};

struct exit_record {
    uint32_t kind, hsr, hdfar, hifar, hpfar, ipa, pc, cpsr;
    uint32_t instruction, length; /* as it was translated; length 0 when not known */
    uint32_t size, is_write;      /* MMIO */
    uint64_t executed;            /* under a budget: instructions executed in this run; one that trapped to be served is not */
    uint64_t value;               /* MMIO: what a store stores, as the device sees it */
    uint64_t epoch;               /* invalidations begun when the guest was left */
    uint32_t settled;             /* ... and all of them were done */
    uint32_t timers;              /* 1: the timers' levels are not those that were told */
};

/* What becomes of a guest's next TLB invalidation, for a fault to be seen. */
enum invalidation { INVALIDATION_GOOD, INVALIDATION_LATE, INVALIDATION_DROPPED, INVALIDATION_DOUBLED };

struct vcpu {
    uc_engine *uc;
    uc_context *pristine;
    struct cp_host *host;
    struct cp_vcpu *slot;
    uint32_t number;
    unsigned char *ram;
    uint64_t ram_bytes;
    _Atomic uint64_t *stage2;      /* the whole table file */
    uint64_t stage2_bytes;
    uint32_t pc, cpsr;             /* the guest's, while it is outside */
    uint32_t hcr;
    uint64_t code_seen;            /* how far the code log was read */
    uint64_t tlb_seen;             /* and the TLB log */
    bool oversubscribed;           /* more vCPUs than cores: waiting loops give the core away */
    uint64_t epoch;                /* at the exit, see exit_record */
    bool settled;
    uint32_t ignored;              /* requests that do not keep this run out of the guest: STOP, for the owner */
    bool semihosting;              /* some instructions are calls to the host */
    bool calls_host;               /* this run ended by one */
    bool trapped;                  /* this run ended by an exception to EL2 */
    bool latched;                  /* an MMIO load waits for its value */
    bool as_shipped;               /* for tests: no seam, no write-xor-execute, TLB maintenance stays local */
    struct exit_record exit;
    struct generic_timer timers[TIMERS];
    uint32_t timer_levels, timer_told; /* of the interrupt lines, bit n for timer n: as they are, as was told */
    uint64_t timers_armed;         /* the count for which the host's timer is set */
    bool has_timer;
    uint32_t flip_pc, flip_page, flips_here;
    bool flip_execute;
    uint32_t fault_lpae, fault_short; /* status of the last translation that failed */
    char sentence[SENTENCE_BYTES];            /* why an operation failed */
    struct journal *journal;       /* NULL: none is kept */
    int swap_fd;                   /* -1: nothing can be swapped out */
    bool waited_for_page;          /* this exit has waited for another host's page */
    uint32_t held_stay;            /* the mode word of the stay in which HOLD was seen first */
    bool swap_failed;              /* a page cannot be brought back: `sentence` says why, and the vCPU cannot go on */
    enum invalidation next_invalidation;
};

static inline struct guest_pages vcpu_pages(const struct vcpu *v)
{
    return (struct guest_pages){ v->ram, v->ram_bytes, v->stage2, v->swap_fd };
}

static inline _Atomic uint64_t *entry_of(const struct vcpu *v, uint32_t ipa)
{
    return v->stage2 + STAGE2_PAGES_OFFSET / 8 + ((ipa - RAM_BASE) >> 12);
}

/* vcpu.c */
bool vcpu_open(struct vcpu *v, uint32_t mpidr);
void vcpu_close(struct vcpu *v);
bool vcpu_power_on(struct vcpu *v, uint32_t entry, const uint32_t r[3]);
void vcpu_restored(struct vcpu *v);
bool vcpu_run(struct vcpu *v, uint64_t budget, bool owner);

/* exits.c */
bool vcpu_handle(struct vcpu *v); /* an exception to EL2 that was just taken; true when Python has to see it, as `exit` */
void vcpu_answer(struct vcpu *v, uint64_t value);
void vcpu_wait_for_interrupt(struct vcpu *v);

/* requests.c */
void vcpu_serve(struct vcpu *v);
void vcpu_rest(struct vcpu *v, bool yes); /* held outside for long: who waits for a flush need not wait for this vCPU */
void vcpu_shootdown(struct vcpu *v, uint32_t bits, bool ipi, bool wait);
void vcpu_invalidate_tlb(struct vcpu *v); /* the guest's TLB maintenance, which retires */

/* undefined.c */
/* The guest has just taken an exception as UNDEFINED, at `v->pc`: if it was an access to CP14 or CP15, take note of it in the
 * control page. `cpsr` is that of the instruction. */
void vcpu_note_undefined(struct vcpu *v, uint32_t cpsr);

/* turns.c */
bool turns_open(struct vcpu *v); /* false with errno set */
void turns_close(void);
void turns_begin(void); /* the vCPU is about to enter */
void turns_give(void);  /* its turn is over: it says that it waits */

/* state.c */
int vcpu_core_id(unsigned n);
bool vcpu_is_mode(uint32_t mode); /* of a guest: neither Monitor nor Hyp */
void vcpu_set_cpsr(struct vcpu *v, uint32_t value);
uint32_t vcpu_register(struct vcpu *v, int id);
void vcpu_set_register(struct vcpu *v, int id, uint32_t value);
uint64_t vcpu_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2);
void vcpu_set_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2,
                 uint64_t value);
#define CP(v, crn, crm, opc1, opc2) ((uint32_t)vcpu_cp(v, 0, crn, crm, opc1, opc2))
#define SET_CP(v, crn, crm, opc1, opc2, value) vcpu_set_cp(v, 0, crn, crm, opc1, opc2, value)
void vcpu_retire(struct vcpu *v, uint32_t length);
void vcpu_abort(struct vcpu *v, bool prefetch, uint32_t address, bool is_write, uint32_t lpae_status,
                uint32_t short_status);
void vcpu_undefined(struct vcpu *v);
bool vcpu_translate(struct vcpu *v, uint32_t gva, bool write, bool privileged, uint32_t *ipa);
/* The instruction that the guest has just executed, as memory has it now: another vCPU may have changed it since. Its length;
 * 0 where it cannot be read. The first halfword of a wide Thumb instruction is in the upper half. Allowed in a run. */
unsigned vcpu_peek(struct vcpu *v, uint32_t gva, bool thumb, bool privileged, uint32_t *word);
bool vcpu_write_ram(struct vcpu *v, uint32_t ipa, const void *data, size_t bytes);

/* semihosting.c */
bool vcpu_calls_host(struct vcpu *v, uint32_t exception);

/* stage2.c */
/* Serve a stage-2 fault: true when the access may be tried again, false when `ipa` is not in RAM. */
bool stage2_fault(struct vcpu *v, uint32_t ipa, bool execute, bool write);
bool stage2_in_ram(const struct vcpu *v, uint32_t ipa);
bool stage2_all_in_ram(const struct vcpu *v, uint32_t ipa, uint64_t bytes);
/* Instruction cache maintenance by address, or of all: other vCPUs see what was written to mixed pages. */
void stage2_sync_code(struct vcpu *v, bool everything, uint32_t gva);
/* The hypervisor wrote to the page, past its stage-2 entry: drop what was translated from it. A page that is about to become
 * executable is none yet: what is translated from it then, is what was written. */
void stage2_wrote(struct vcpu *v, uint32_t ipa);

/* Have another host's page here, to read or to write, or find that the run is over. It may be gone again at once. */
void stage2_want(struct vcpu *v, uint32_t ipa, bool write, bool execute);

/* swap.c */
/* Swap out the page of `ipa` and fill its frame. Outside the guest, and not in a world that this vCPU has stopped. */
enum swap_result stage2_swap_out(struct vcpu *v, uint32_t ipa, uint32_t fill, bool ipi);
enum swap_result stage2_swap_in(struct vcpu *v, uint32_t ipa);
/* Fill a frame that nobody maps any more, when the world is not stopped. False outside RAM, and when the run is over. */
bool stage2_reuse(struct vcpu *v, uint32_t ipa, uint32_t fill);
/* Have these bytes in their frames: swapped in, on this host, and nobody at it. */
void stage2_bring_in(struct vcpu *v, uint32_t ipa, uint64_t bytes);
/* Have the page, on which this vCPU is about to write past stage 2, in its frame and nobody else at it, until it is put back with
 * the entry that is returned; 0 when the run is over. */
uint64_t stage2_take(struct vcpu *v, uint32_t ipa);
void stage2_put_back(struct vcpu *v, uint32_t ipa, uint64_t entry);

#endif
