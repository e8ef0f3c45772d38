/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For interpose/ only: the library's internal functions that the engine calls or calls through. library_open() finds
 * them after it has accepted the library. They are facts of the library, the same for every engine of the process. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_INTERNALS_H
#define ALLSTOP_ENGINE_INTERPOSE_INTERNALS_H

#include <stdbool.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

/* A function of the library's that the engine defines in its place. */
#define INTERPOSED __attribute__((visibility("default")))

/* A field of a private structure, at an offset that was read in the library's machine code. */
#define AT(base, offset, type) (*(type *)((char *)(base) + (offset)))

typedef struct TCGContext TCGContext;
typedef struct TranslationBlock TranslationBlock;
struct fault;

struct library_calls {
    void (*tcg_func_start)(TCGContext *);
    void (*check_exit_request)(void *, uint32_t);
    void (*loop_exit_restore)(void *, uintptr_t);
    void (*translator_loop)(const void *, void *, void *, TranslationBlock *, int);
    void (*loop_exit_noexc)(void *);
    void (*ld_i32)(TCGContext *, void *, void *, uintptr_t, int);
    void (*st_i32)(TCGContext *, void *, void *, uintptr_t, int);
    void (*ld_i64)(TCGContext *, void *, void *, uintptr_t, int);
    void (*st_i64)(TCGContext *, void *, void *, uintptr_t, int);
    void (*addi_i32)(TCGContext *, void *, void *, int32_t);
    void (*call)(TCGContext *, void *, void *, int, void **);
    void *(*new_label)(TCGContext *);
    void *(*new_temporary)(TCGContext *, int, bool);
    void (*free_temporary)(TCGContext *, void *);
    void *(*const_i32)(TCGContext *, int32_t);
    void *(*const_i64)(TCGContext *, int64_t);
    void (*op1)(TCGContext *, int, uintptr_t);
    void (*op3)(TCGContext *, int, uintptr_t, uintptr_t, uintptr_t);
    void (*brcondi_i32)(TCGContext *, int, void *, int32_t, void *);
    uint32_t (*ldl_code)(void *, uint32_t);
    uint32_t (*lduw_code)(void *, uint32_t);
    TranslationBlock *(*gen_code)(void *, uint32_t, uint32_t, uint32_t, int);
    TranslationBlock *(*lookup)(TCGContext *, uintptr_t);
    void (*flush_blocks)(void *);
    void (*do_interrupt)(void *);
    void (*flush_tlb)(void *);
    void (*flush_page)(void *, uint32_t);
    void (*invalidate_range)(uc_engine *, uintptr_t, uintptr_t);
    bool (*get_phys_addr)(void *, uint32_t, int, int, uint64_t *, uint32_t *, int *, uint32_t *, struct fault *,
                          void *);
    void (*wfe)(void *);
    void (*yield)(void *);
    const void *(*reginfo)(void *, uint32_t);
    uint32_t (*exchange_b)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uintptr_t);
    uint32_t (*exchange_w_le)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uintptr_t);
    uint32_t (*exchange_w_be)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uintptr_t);
    uint32_t (*exchange_l_le)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uintptr_t);
    uint32_t (*exchange_l_be)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uintptr_t);
    uint64_t (*exchange_q_le)(void *, uint32_t, uint64_t, uint64_t, uint32_t, uintptr_t);
    uint64_t (*exchange_q_be)(void *, uint32_t, uint64_t, uint64_t, uint32_t, uintptr_t);
};

/* Hidden: the extension is loaded globally, and another library may use a name as short as this one, too. */
extern struct library_calls real __attribute__((visibility("hidden")));

#endif
