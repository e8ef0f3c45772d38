/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seam: everything that is known of the insides of libunicorn, and nothing else, is behind this header. */
#ifndef ALLSTOP_SEAM_H
#define ALLSTOP_SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

/* What the engine is told when translated code calls back. */
struct seam_events {
    /* A block is about to start and `*requests` is not zero. True: stop the run before the block. */
    bool (*poll)(void);
    /* WFE or YIELD was executed. */
    void (*hint)(bool is_wfe);
};

/* Public functions of the library, found by name. */
struct seam_calls {
    uc_err (*open)(uc_arch, uc_mode, uc_engine **);
    uc_err (*close)(uc_engine *);
    uc_err (*ctl)(uc_engine *, uc_control_type, ...);
    uc_err (*mem_map_ptr)(uc_engine *, uint64_t, size_t, uint32_t, void *);
    uc_err (*emu_start)(uc_engine *, uint64_t, uint64_t, uint64_t, size_t);
    uc_err (*emu_stop)(uc_engine *);
    uc_err (*reg_read)(uc_engine *, int, void *);
    uc_err (*reg_write)(uc_engine *, int, const void *);
    uc_err (*hook_add)(uc_engine *, uc_hook *, int, void *, void *, uint64_t, uint64_t, ...);
    uc_err (*context_alloc)(uc_engine *, uc_context **);
    uc_err (*context_save)(uc_engine *, uc_context *);
    uc_err (*context_restore)(uc_engine *, uc_context *);
    size_t (*context_size)(uc_engine *);
    uc_err (*context_free)(uc_context *);
    const char *(*strerror)(uc_err);
};

extern struct seam_calls uc;

/* Load the library at `path` and check that it is the one that is known. NULL, or one sentence. A library is loaded once;
 * after that, and with NULL for a path, this says how it went. */
const char *seam_open(const char *path);

/* With `enabled` false the library behaves as shipped: no atomics or fences between processes. For the test that
 * shows the conformance gate red. Takes effect for what is translated from now on. */
void seam_enable(bool enabled);

/* One engine per process. `requests` is the word that is polled at each block start. */
void seam_attach(uc_engine *engine, _Atomic uint32_t *requests, const struct seam_events *events);

void seam_take_exception(void);                      /* as the architecture says, to EL1 or EL2 */
void seam_flush_tlb(void);                           /* between runs only */
void seam_flush_page(uint32_t gva);                  /* the same for one page, or a larger one that it is a part of */
void seam_invalidate_code(uint64_t ram_offset, uint64_t bytes); /* between runs only; by pages: not for all of RAM */
void seam_drop_code(void);                           /* all of it, between runs only */

/* Of the runs that follow: 0 is no budget. With one, a block is one instruction, so that it can be kept exactly, in IT
 * blocks too. Between runs only; changing from none to some or back drops all translations. */
void seam_set_budget(uint64_t instructions);
uint64_t seam_budget_left(void);
bool seam_budget_is_spent(void);
/* Stop before the instructions at these virtual addresses, between runs only. The one that stopped a run is executed when
 * the next run gets there. */
#define SEAM_BREAKPOINTS 64u
void seam_set_breakpoints(const uint32_t *addresses, unsigned n);
bool seam_is_at_breakpoint(void);                    /* the run that is over stopped at one */
void seam_count(void);                               /* an instruction that could not be fetched is over, too */
void seam_uncount(void);                             /* the instruction counted last has trapped, and was not executed */

/* The PMU is a Cortex-A15's from now on. */
void seam_identify_pmu(void);

/* What the guest's stage 1 makes of an address, as seam_translate finds it. */
struct seam_translation {
    uint32_t ipa;
    bool walk_stopped;                 /* the walk read a descriptor at `ipa`, which stage 2 does not map */
    uint32_t lpae_status, short_status; /* of the fault: DFSC, and DFSR.FS */
};

/* Walk the guest's stage-1 tables, whatever its mode is, and change nothing, PAR included. False where it faults. */
bool seam_translate(uint32_t gva, bool write, bool privileged, struct seam_translation *result);

/* The translations that the library needs, found in memory: `memory` says where the byte at `ipa` lies in this process and what
 * stage 2 allows (bits 0 to 2: reading, writing, executing), NULL where stage 2 has nothing there. NULL: the library's own. */
void seam_walk_in(const void *(*memory)(uint32_t ipa, int *allowed));

/* The CPU in a context that uc.context_alloc() made. Without the library's own header, which holds pointers and what was in
 * the memory before: what is left is the same for the same state. */
void *seam_context_state(uc_context *context, size_t *bytes);

/* The exclusive monitor: address (all ones when open) and the value that was loaded. */
void seam_monitor(uint64_t *address, uint64_t *value);
void seam_set_monitor(uint64_t address, uint64_t value);

/* The instruction at `pc` as it was translated in the block whose state was restored last. Returns its length in bytes
 * (2 or 4), with the first halfword of a wide Thumb instruction in the upper half; 0 when it is not known. */
unsigned seam_executed(uint32_t pc, bool thumb, uint32_t *word);

/* Hash of the machine code of the functions that are relied on, for the one who ports to another build. */
size_t seam_fact_count(void);
bool seam_fact(size_t index, const char **name, uint64_t *expected, uint64_t *found);

#endif
