/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interposer over an unmodified libunicorn 2.1.4.
 *
 * The library calls between its own source files through its procedure linkage table, with default visibility. This
 * extension is loaded first and globally, so that the functions that it defines under the library's names are called
 * instead, and call through. What that buys:
 *
 *   tcg_func_start              every block is translated for a parallel machine: exclusives are host atomics, barriers
 *                               are host fences (QEMU's CF_PARALLEL, which the library never sets)
 *   helper_check_exit_request   called at each block start: here it polls the vCPU's request word, so a stop is exact,
 *                               at a block start: poll.c
 *   tcg_gen_callN               ... and is called only where the word asks for something
 *   translator_loop             under an instruction budget a block is one instruction, so that the polling counts
 *                               them. The library's own counter lets an IT block pass as one, does not count in blocks
 *                               that it has translated before, and starts again with each run
 *   tcg_gen_qemu_ld/st          without a check for a stop after each access: access.c
 *   helper_wfe, helper_yield    a place to give the host's core away, without leaving the run
 *   cpu_check_watchpoint, helper_atomic_cmpxchg
 *                               watchpoints on data: watch.c
 *   get_arm_cp_reginfo          other descriptions of some registers: arm/reginfo.c
 *   get_phys_addr               the walk that fills the TLB, with a short cut: arm/walk.c
 *   cpu_ldl_code, cpu_lduw_code, tb_gen_code, tcg_tb_lookup
 *                               what the translator read, kept by block: the instruction as it was executed
 */
#include "vcpu_worker/engine/interpose/interpose.h"

#include <stdlib.h>

#include "vcpu_worker/engine/interpose/arm/coprocessors.h"
#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/reading.h"
#include "vcpu_worker/engine/interpose/state.h"

#define TCG_CFLAGS 0x64 /* TCGContext.tb_cflags: tcg_gen_mb_arm tests bit 19 at 0x66 */
#define CF_PARALLEL 0x80000u

static struct interpose no_engine;
_Thread_local struct interpose *interpose_current = &no_engine;

struct interpose *interpose_new(bool as_shipped)
{
    struct interpose *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->as_shipped = as_shipped;
    s->coprocessors = coprocessors_new();
    if (s->coprocessors == NULL) {
        free(s);
        return NULL;
    }
    return s;
}

void interpose_free(struct interpose *s)
{
    if (s == NULL)
        return;
    if (interpose_current == s)
        interpose_current = &no_engine;
    reading_forget(&s->reading);
    coprocessors_free(s->coprocessors);
    free(s);
}

void interpose_select(struct interpose *s)
{
    interpose_current = s ? s : &no_engine;
}

void interpose_attach(struct interpose *s, uc_engine *engine, _Atomic uint32_t *requests,
                      const struct interpose_events *events, void *context)
{
    s->uc = engine;
    s->requests = requests;
    s->on = *events;
    s->context = context;
}

/* ---- the library's own names ---- */

INTERPOSED uint32_t cpu_ldl_code_arm(void *env, uint32_t address)
{
    uint32_t value = real.ldl_code(env, address);
    reading_note(&interpose_current->reading, address, value, 2);
    return value;
}

INTERPOSED uint32_t cpu_lduw_code_arm(void *env, uint32_t address)
{
    uint32_t value = real.lduw_code(env, address);
    reading_note(&interpose_current->reading, address, value, 1);
    return value;
}

INTERPOSED TranslationBlock *tb_gen_code_arm(void *cpu, uint32_t pc, uint32_t cs_base, uint32_t flags, int cflags)
{
    struct interpose *s = interpose_current;
    if (s->uc == NULL)
        return real.gen_code(cpu, pc, cs_base, flags, cflags);
    s->translating = pc;
    reading_begin(&s->reading, pc); /* a fetch that faults leaves by longjmp: the next translation starts over */
    TranslationBlock *block = real.gen_code(cpu, pc, cs_base, flags, cflags);
    reading_end(&s->reading, block);
    return block;
}

INTERPOSED TranslationBlock *tcg_tb_lookup_arm(TCGContext *tcg, uintptr_t host_pc)
{
    TranslationBlock *block = real.lookup(tcg, host_pc);
    if (interpose_current->uc != NULL)
        reading_restored(&interpose_current->reading, block);
    return block;
}

INTERPOSED void tb_flush_arm(void *cpu)
{
    real.flush_blocks(cpu);
    reading_forget(&interpose_current->reading);
}

INTERPOSED void tcg_func_start_arm(TCGContext *tcg)
{
    struct interpose *s = interpose_current;
    if (s->uc != NULL)
        s->translator = tcg;
    if (interpose_changes(s))
        AT(tcg, TCG_CFLAGS, uint32_t) |= CF_PARALLEL;
    real.tcg_func_start(tcg);
}

static void give_way(struct interpose *s, bool is_wfe)
{
    s->on.hint(s->context, is_wfe);
    real.loop_exit_noexc(interpose_cpu(s));
}

INTERPOSED void helper_wfe_arm(void *env)
{
    if (interpose_current->requests == NULL)
        real.wfe(env);
    else
        give_way(interpose_current, true);
}

INTERPOSED void helper_yield_arm(void *env)
{
    if (interpose_current->requests == NULL)
        real.yield(env);
    else
        give_way(interpose_current, false);
}
