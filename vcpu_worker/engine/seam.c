/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seam over an unmodified libunicorn 2.1.4.
 *
 * The library calls between its own source files through its procedure linkage table, with default visibility. This
 * file is loaded first and globally, so that the functions that it defines under the library's names are called
 * instead, and call through. What that buys:
 *
 *   tcg_func_start              every block is translated for a parallel machine: exclusives are host atomics, barriers are
 *                               host fences (QEMU's CF_PARALLEL, which the library never sets)
 *   helper_check_exit_request   called at each block start: here it polls the vCPU's request word, so a stop is exact, at a
 *                               block start
 *   tcg_gen_callN               ... and is called only where the word asks for something: seam_poll.c
 *   translator_loop             under an instruction budget a block is one instruction, so that the polling counts them. The
 *                               library's own counter lets an IT block pass as one, does not count in blocks that it has
 *                               translated before, and starts again with each run
 *   tcg_gen_qemu_ld/st          without a check for a stop after each access: seam_access.c
 *   helper_wfe, helper_yield    a place to give the host's core away, without leaving the run
 *   get_arm_cp_reginfo          instruction cache maintenance, a no-op in the library, is translated as TLB maintenance is:
 *                               HCR.TTLB makes it trap, with the syndrome of the instruction that it is
 *                               ... and seam_coprocessors.c has its own answers for some registers
 *   get_phys_addr               the walk that fills the TLB, with a short cut: seam_walk.c
 *   cpu_ldl_code, cpu_lduw_code, tb_gen_code, tcg_tb_lookup
 *                               what the translator read, kept by block: the instruction as it was executed
 */
#include "seam.h"

#include <stdatomic.h>
#include <string.h>

#include "seam_access.h"
#include "seam_coprocessors.h"
#include "seam_library.h"
#include "seam_poll.h"
#include "seam_reading.h"
#include "seam_registers.h"
#include "seam_walk.h"
#include "seam_watch.h"

/* Offsets, with the function of the library in which each can be seen. Another build is refused: seam_library.c. */
#define TCG_CFLAGS 0x64          /* TCGContext.tb_cflags: tcg_gen_mb_arm tests bit 19 at 0x66 */
#define CF_PARALLEL 0x80000u
#define BLOCK_PC 0               /* TranslationBlock.pc: tb_gen_code_arm */
#define UC_CPU 0x1b8             /* uc_struct.cpu: helper_check_exit_request_arm */
#define CPU_ENV 0xa2f0           /* ARMCPU.env: get_page_addr_code_arm's callers; arm_cpu_do_interrupt_arm */
#define ENV_EXCLUSIVE_ADDR 0xec0 /* CPUARMState.exclusive_addr, exclusive_val */
#define ENV_EXCLUSIVE_VAL 0xec8
#define CONTEXT_BYTES 0          /* uc_context.context_size, of the data at its end: uc_context_alloc */
#define STAGE1_USER 0x20         /* ARMMMUIdx_Stage1_E0 and _E1: do_ats_write */
#define STAGE1_PRIVILEGED 0x21

/* ARMMMUFaultInfo, filled in by get_phys_addr_arm for arm_cpu_tlb_fill_arm. */
struct fault {
    uint32_t type;
    uint32_t walk_ipa;
    int32_t level, domain;
    bool stage2, on_walk, external;
};
enum { FAULT_ACCESS_FLAG = 1, FAULT_DOMAIN = 4, FAULT_PERMISSION, FAULT_TRANSLATION, FAULT_ADDRESS_SIZE,
       FAULT_EXTERNAL_ON_WALK = 9 };

#define AT(base, offset, type) (*(type *)((char *)(base) + (offset)))

static uc_engine *engine;
static _Atomic uint32_t *request_word;
static struct seam_events on;
static bool parallel = true;
static bool counting;
static uint64_t budget_left;
static uint32_t breakpoints[SEAM_BREAKPOINTS];
static unsigned breakpoint_count;
static bool at_breakpoint;
static uint32_t passing;              /* the breakpoint that was hit last: it is passed once */
static bool passes, passed_last;     /* the block that runs was passed */
static bool retries;                  /* it has trapped, and is passed again when it comes next */
static uint32_t translating;          /* PC of the block that is translated */
static TCGContext *translator;
static void *registers_table;         /* the library's, of what it knows of CP14 and CP15 */

void seam_enable(bool enabled)
{
    parallel = enabled;
}

void seam_attach(uc_engine *of, _Atomic uint32_t *requests, const struct seam_events *events)
{
    engine = of;
    request_word = requests;
    on = *events;
    counting = false;
    budget_left = 0;
    breakpoint_count = 0;
    seam_watch_attach(of);
    seam_access_attach(of);
    seam_poll_attach(requests);
    seam_reading_forget();
}

static void *cpu(void)
{
    return AT(engine, UC_CPU, void *);
}

void *seam_cpu(void *of)
{
    return (char *)of - CPU_ENV;
}

static void *env(void)
{
    return (char *)cpu() + CPU_ENV;
}

void seam_take_exception(void)
{
    real.do_interrupt(cpu());
}

void seam_flush_tlb(void)
{
    real.flush_tlb(cpu());
}

void seam_flush_page(uint32_t gva)
{
    real.flush_page(cpu(), gva);
}

void seam_invalidate_code(uint64_t ram_offset, uint64_t bytes)
{
    real.invalidate_range(engine, ram_offset, ram_offset + bytes);
}

void seam_drop_code(void)
{
    real.flush_blocks(cpu());
    seam_reading_forget();
}

void seam_set_budget(uint64_t instructions)
{
    if (counting != (instructions != 0)) {
        counting = instructions != 0;
        seam_drop_code();
    }
    budget_left = instructions;
}

void seam_set_breakpoints(const uint32_t *addresses, unsigned n)
{
    memcpy(breakpoints, addresses, n * sizeof *addresses);
    breakpoint_count = n;
    passes = passed_last = retries = false;
    seam_drop_code();
}

bool seam_is_at_breakpoint(void)
{
    bool hit = at_breakpoint;
    at_breakpoint = false;
    return hit;
}

/* How many instructions a block from `pc` on may have, so that none but its first one is at a breakpoint. */
static int longest_from(uint32_t pc, int longest)
{
    for (unsigned i = 0; i < breakpoint_count; i++) {
        uint32_t ahead = breakpoints[i] - pc;
        if (ahead != 0 && ahead < 4u * (uint32_t)longest)
            longest = ahead < 8 ? 1 : (int)(ahead / 4);
    }
    return longest;
}

/* Whether the block that calls from `host_pc` starts at a breakpoint that is not just being passed. */
static bool hits(uintptr_t host_pc)
{
    const TranslationBlock *block = real.lookup(translator, host_pc);
    uint32_t pc = block ? AT((TranslationBlock *)block, BLOCK_PC, uint32_t) : 0;
    bool passed = (passes || retries) && pc == passing;
    passed_last = retries = false;
    for (unsigned i = 0; block && i < breakpoint_count; i++) {
        if (breakpoints[i] != pc)
            continue;
        passes = !passed;
        passed_last = passed;
        passing = pc;
        return !passed;
    }
    return false;
}

uint64_t seam_budget_left(void)
{
    return budget_left;
}

bool seam_budget_is_spent(void)
{
    return counting && budget_left == 0;
}

void seam_count(void)
{
    budget_left -= counting && budget_left > 0;
}

void seam_uncount(void)
{
    budget_left += counting;
    retries = passed_last;
}

/* The fault status of B3.13.3 (ARM DDI 0406C): long-descriptor and short-descriptor format. */
static void describe_fault(const struct fault *f, struct seam_translation *t)
{
    uint32_t level = (uint32_t)f->level & 3;
    bool first = f->level == 1;
    switch (f->on_walk ? FAULT_EXTERNAL_ON_WALK : f->type) {
    case FAULT_ACCESS_FLAG:
        t->lpae_status = 0x08 | level;
        t->short_status = first ? 0x03 : 0x06;
        break;
    case FAULT_DOMAIN:
        t->lpae_status = 0x3c | level;
        t->short_status = first ? 0x09 : 0x0b;
        break;
    case FAULT_PERMISSION:
        t->lpae_status = 0x0c | level;
        t->short_status = first ? 0x0d : 0x0f;
        break;
    case FAULT_ADDRESS_SIZE:
        t->lpae_status = level;
        t->short_status = first ? 0x05 : 0x07;
        break;
    case FAULT_EXTERNAL_ON_WALK:
        t->lpae_status = 0x14 | level;
        t->short_status = first ? 0x0c : 0x0e;
        break;
    default: /* FAULT_TRANSLATION */
        t->lpae_status = 0x04 | level;
        t->short_status = first ? 0x05 : 0x07;
    }
}

bool seam_translate(uint32_t gva, bool write, bool privileged, struct seam_translation *result)
{
    uint64_t ipa = 0;
    uint32_t attributes = 0, page_bytes = 0;
    int access = 0;
    struct fault fault = { 0 };
    memset(result, 0, sizeof *result);
    /* Not by ATS1C: that one leaves by longjmp where a walk fails at stage 2, and outside a run there is nowhere to go. */
    if (real.get_phys_addr(env(), gva, write, privileged ? STAGE1_PRIVILEGED : STAGE1_USER, &ipa, &attributes, &access,
                           &page_bytes, &fault, NULL)) {
        result->walk_stopped = fault.on_walk;
        result->ipa = fault.walk_ipa;
        describe_fault(&fault, result);
        return false;
    }
    result->ipa = (uint32_t)ipa; /* the library, too, keeps 32 bits of what stage 1 says */
    return true;
}

void *seam_context_state(uc_context *context, size_t *bytes)
{
    *bytes = AT(context, CONTEXT_BYTES, size_t);
    return (char *)context + uc.context_size(engine) - *bytes;
}

void seam_monitor(uint64_t *address, uint64_t *value)
{
    *address = AT(env(), ENV_EXCLUSIVE_ADDR, uint64_t);
    *value = AT(env(), ENV_EXCLUSIVE_VAL, uint64_t);
}

void seam_set_monitor(uint64_t address, uint64_t value)
{
    AT(env(), ENV_EXCLUSIVE_ADDR, uint64_t) = address;
    AT(env(), ENV_EXCLUSIVE_VAL, uint64_t) = value;
}

/* ---- the library's own names ---- */

#define INTERPOSED __attribute__((visibility("default")))

INTERPOSED uint32_t cpu_ldl_code_arm(void *env, uint32_t address)
{
    uint32_t value = real.ldl_code(env, address);
    seam_reading_note(address, value, 2);
    return value;
}

INTERPOSED uint32_t cpu_lduw_code_arm(void *env, uint32_t address)
{
    uint32_t value = real.lduw_code(env, address);
    seam_reading_note(address, value, 1);
    return value;
}

INTERPOSED TranslationBlock *tb_gen_code_arm(void *cpu, uint32_t pc, uint32_t cs_base, uint32_t flags, int cflags)
{
    translating = pc;
    seam_reading_begin(pc); /* a fetch that faults leaves by longjmp: the next translation starts over */
    TranslationBlock *block = real.gen_code(cpu, pc, cs_base, flags, cflags);
    seam_reading_end(engine != NULL ? block : NULL);
    return block;
}

INTERPOSED TranslationBlock *tcg_tb_lookup_arm(TCGContext *tcg, uintptr_t host_pc)
{
    TranslationBlock *block = real.lookup(tcg, host_pc);
    seam_reading_restored(block);
    return block;
}

INTERPOSED void tb_flush_arm(void *cpu)
{
    real.flush_blocks(cpu);
    seam_reading_forget();
}

INTERPOSED void tcg_func_start_arm(TCGContext *tcg)
{
    translator = tcg;
    if (parallel && engine != NULL)
        AT(tcg, TCG_CFLAGS, uint32_t) |= CF_PARALLEL;
    real.tcg_func_start(tcg);
}

#define NON_SECURE (1u << 29)

INTERPOSED const void *get_arm_cp_reginfo_arm(void *table, uint32_t key)
{
    if (parallel && engine != NULL) {
        uint32_t name = key & ~NON_SECURE;
        if (name == SEAM_REGISTER(7, 5, 0, 0) || name == SEAM_REGISTER(7, 5, 0, 1) || name == SEAM_REGISTER(7, 1, 0, 0))
            key = (key & NON_SECURE) | SEAM_REGISTER(8, 7, 0, 1); /* TLBIMVA */
    }
    registers_table = table;
    const void *theirs = seam_registers_find(key, real.reginfo(table, key));
    return parallel && engine != NULL ? coprocessors_reginfo(key, theirs) : theirs;
}

void seam_walk_in(const void *(*memory)(uint32_t ipa, int *allowed))
{
    seam_walk_by(registers_table, memory);
}

void seam_identify_pmu(void)
{
    coprocessors_know_pmu(real.reginfo, registers_table);
    coprocessors_set_pmcr(env(), real.reginfo(registers_table, COPROCESSORS_PMCR_KEY));
}

INTERPOSED void helper_check_exit_request_arm(void *of, uint32_t in_delay_slot)
{
    if (__builtin_expect(request_word == NULL, false)) {
        real.check_exit_request(of, in_delay_slot);
        return;
    }
    bool requested = atomic_load_explicit(request_word, memory_order_relaxed) != 0;
    if (__builtin_expect(!requested && !counting && !breakpoint_count, true))
        return;
    if (breakpoint_count && !seam_stops_suspended() && hits((uintptr_t)__builtin_return_address(0))) {
        at_breakpoint = true;
        uc.emu_stop(engine);
        real.loop_exit_restore(cpu(), (uintptr_t)__builtin_return_address(0));
    }
    if (seam_budget_is_spent() || (requested && on.poll())) {
        uc.emu_stop(engine);
        real.loop_exit_restore(cpu(), (uintptr_t)__builtin_return_address(0));
    }
    seam_count();
}

INTERPOSED void translator_loop_arm(const void *operations, void *base, void *cpu, TranslationBlock *block, int longest)
{
    seam_poll_block_starts(!counting && !breakpoint_count);
    real.translator_loop(operations, base, cpu, block, counting ? 1 : longest_from(translating, longest));
}

static void give_way(bool is_wfe)
{
    on.hint(is_wfe);
    real.loop_exit_noexc(cpu());
}

INTERPOSED void helper_wfe_arm(void *env)
{
    if (request_word == NULL)
        real.wfe(env);
    give_way(true);
}

INTERPOSED void helper_yield_arm(void *env)
{
    if (request_word == NULL)
        real.yield(env);
    give_way(false);
}
