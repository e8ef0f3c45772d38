/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The look at the request word, at each block start, within the translated block.
 *
 * The library calls helper_check_exit_request at each block start, with a call that the translator makes by
 * tcg_gen_callN. That one call of each block is put behind a test of the word: three instructions of the host where
 * nothing is asked. The rest of a block must not branch: the library's other checks, such as the one after an IT
 * block, have temporaries that live across them.
 */
#include <stdatomic.h>
#include <stddef.h>

#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/library.h"
#include "vcpu_worker/engine/interpose/state.h"
#include "vcpu_worker/engine/interpose/stops.h"

/* Of the library's TCG (tcg-opc.h, tcg.h): tcg_gen_callN_arm emits 2, tcg_gen_br in tcg_gen_brcond_i32_arm 3. */
enum { OP_SET_LABEL = 1, OP_LOAD_32 = 13 };
enum { CONDITION_EQUAL = 8 };
enum { TYPE_I32 = 0, NOT_LOCAL = 0 };
#define LABEL_PRESENT 1u /* TCGLabel: its first bit, set by gen_set_label */

static void stop_before_block(struct interpose *s, uintptr_t host_pc)
{
    uc.emu_stop(s->uc);
    real.loop_exit_restore(interpose_cpu(s), host_pc);
}

INTERPOSED void helper_check_exit_request_arm(void *of, uint32_t in_delay_slot)
{
    struct interpose *s = interpose_current;
    if (__builtin_expect(s->requests == NULL, false)) {
        real.check_exit_request(of, in_delay_slot);
        return;
    }
    uintptr_t host_pc = (uintptr_t)__builtin_return_address(0);
    bool requested = atomic_load_explicit(s->requests, memory_order_relaxed) != 0;
    if (__builtin_expect(!requested && !stops_need_call(&s->stops), true))
        return;
    if (s->stops.breakpoint_count && stops_hits(s, host_pc))
        stop_before_block(s, host_pc);
    if (budget_is_spent(&s->stops) || (requested && s->on.poll(s->context)))
        stop_before_block(s, host_pc);
    count_instruction(&s->stops);
}

INTERPOSED void translator_loop_arm(const void *operations, void *base, void *cpu, TranslationBlock *block, int longest)
{
    struct interpose *s = interpose_current;
    s->at_block_start = s->requests != NULL && !stops_need_call(&s->stops);
    real.translator_loop(operations, base, cpu, block, stops_longest_block(s, s->translating, longest));
}

static void *temporary(TCGContext *tcg, void *variable)
{
    return (char *)tcg + (uintptr_t)variable; /* tcgv_i32_temp: a variable is the offset of its temporary */
}

static void call_where_asked(const struct interpose *s, TCGContext *tcg, void *function)
{
    uint32_t *over = real.new_label(tcg);
    void *address = temporary(tcg, real.const_i64(tcg, (int64_t)(uintptr_t)s->requests));
    void *asked = real.new_temporary(tcg, TYPE_I32, NOT_LOCAL);
    real.op3(tcg, OP_LOAD_32, (uintptr_t)asked, (uintptr_t)address, 0);
    real.brcondi_i32(tcg, CONDITION_EQUAL, (void *)((char *)asked - (char *)tcg), 0, over);
    /* A branch ends the life of temporaries, so the library's arguments are gone; our function uses none. */
    void *again[2] = { temporary(tcg, real.const_i64(tcg, 0)), temporary(tcg, real.const_i32(tcg, 0)) };
    real.call(tcg, function, NULL, 2, again);
    *over |= LABEL_PRESENT;
    real.op1(tcg, OP_SET_LABEL, (uintptr_t)over);
    real.free_temporary(tcg, again[1]);
    real.free_temporary(tcg, again[0]);
    real.free_temporary(tcg, asked);
    real.free_temporary(tcg, address);
}

INTERPOSED void tcg_gen_callN_arm(TCGContext *tcg, void *function, void *result, int n, void **arguments)
{
    struct interpose *s = interpose_current;
    if (s->at_block_start && function == (void *)helper_check_exit_request_arm) {
        s->at_block_start = false;
        call_where_asked(s, tcg, function);
        return;
    }
    real.call(tcg, function, result, n, arguments);
}
