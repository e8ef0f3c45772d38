/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For interpose/ only: everything that it keeps of one engine, and whose engine the running thread drives.
 *
 * The library calls the functions that interpose/ defines in its place with a CPU, a TCG context, a register table or
 * nothing. None of these leads to us, so they find their engine by `interpose_current`: one pointer for each thread,
 * which interpose_select() sets before the thread calls the library. Nothing else that belongs to one engine is
 * global.
 */
#ifndef ALLSTOP_ENGINE_INTERPOSE_STATE_H
#define ALLSTOP_ENGINE_INTERPOSE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

#include "vcpu_worker/engine/interpose/arm/description.h"
#include "vcpu_worker/engine/interpose/contract.h"
#include "vcpu_worker/engine/interpose/internals.h"

#define OWN_REGISTERS 64u

/* stops.c: the instruction budget and breakpoints */
struct stops {
    bool counting;
    uint64_t budget_left;
    uint32_t breakpoints[INTERPOSE_BREAKPOINTS];
    unsigned breakpoint_count;
    bool at_breakpoint;
    uint32_t passing;         /* the breakpoint that was hit last: it is passed once */
    bool passes, passed_last; /* the running block was passed */
    bool retries;             /* it has trapped, and is passed again when it comes next */
};

/* Called once for each instruction under a budget, so inline. */
static inline bool budget_is_spent(const struct stops *stops)
{
    return stops->counting && stops->budget_left == 0;
}

static inline void count_instruction(struct stops *stops)
{
    stops->budget_left -= stops->counting && stops->budget_left > 0;
}

/* Whether blocks have to call at their start. */
static inline bool stops_need_call(const struct stops *stops)
{
    return stops->counting || stops->breakpoint_count;
}

/* watch.c */
struct watch {
    struct watchpoint points[INTERPOSE_WATCHPOINTS];
    unsigned count;
    bool suspended, hit;
    uint32_t hit_address;
    bool hit_is_write;
};

/* reading.c: what the translator has read */
struct reading {
    struct read_block *blocks; /* open addressing, a power of two */
    size_t slots, count;
    uint16_t words[4096];
    uint32_t start, halfwords;
    bool is_reading;
    const void *restored;
    struct {
        uint32_t word, at; /* the instruction that is being translated, and where its last halfword is */
        bool thumb, may_grow, fresh;
    } translated;
};

/* arm/walk.c */
struct walk {
    interpose_memory *memory;                        /* NULL: the library walks */
    intptr_t sctlr, ttbr0, ttbr1, ttbcr, dacr, fcse; /* offsets in CPUARMState */
};

/* arm/registers.c: registers that the engine defines */
struct own_register {
    uint32_t key;
    struct register_description description;
    bool described; /* else only its functions and context are set */
};
struct own_registers {
    struct own_register all[OWN_REGISTERS];
    unsigned count;
};

/* arm/coprocessors.c */
struct coprocessors;

struct interpose {
    uc_engine *uc;              /* NULL: not attached, and the library behaves as shipped */
    _Atomic uint32_t *requests; /* the word that is polled at each block start */
    struct interpose_events on;
    void *context; /* for `on` and `walk.memory` */
    bool as_shipped;
    bool at_block_start;  /* the next call that is translated is a block's first: poll.c */
    uint32_t translating; /* PC of the block that is being translated */
    TCGContext *translator;
    void *registers_table; /* the library's descriptions of the registers of CP14 and CP15 */
    struct stops stops;
    struct watch watch;
    struct reading reading;
    struct walk walk;
    struct own_registers registers;
    struct coprocessors *coprocessors;
};

/* Never NULL: a thread that drives no engine has one of zeros. The model spares the hooks a call for the address. */
extern _Thread_local struct interpose *interpose_current
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* Whether translated code is changed: an engine is attached, and not as shipped. */
static inline bool interpose_changes(const struct interpose *s)
{
    return s->uc != NULL && !s->as_shipped;
}

#endif
